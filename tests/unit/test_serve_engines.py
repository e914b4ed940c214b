"""A release becomes an engine's flags; llama.cpp's two forms say the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from release.manifest import Manifest
from release.store import ReleaseStore
from serve.engine import gauge, url_of
from serve.errors import ServeError
from serve.llamacpp.engine import LlamaCpp
from serve.llamacpp.native import common_params
from serve.llamacpp.settings import LlamaCppSettings, flags, native_params
from serve.settings import Settings, load_settings
from serve.source import Sampling, Source, select
from serve.vllm.engine import Vllm
from serve.vllm.engine import flags as vllm_flags
from serve.vllm.plugins import PARSER_PLUGINS
from tests.native_stack import FAKE
from tests.release_bundle import TEMPLATE, sealed
from train.template import KNOWN


@pytest.fixture
def release(tmp_path: Path) -> Manifest:
    store = ReleaseStore(tmp_path / "models")
    manifest = sealed(store)
    store.set_channel("stable", manifest.id)
    return manifest


def made(tmp_path: Path, **given: Any) -> tuple[Source, Settings]:
    settings = load_settings({"store": tmp_path / "models", "threads": 3, **given})
    return select(settings), settings


def test_llama_server_flags(tmp_path: Path, release: Manifest) -> None:
    source, settings = made(tmp_path, llama_server=FAKE)
    server, *arguments = LlamaCpp(source, settings).program.argv
    assert server == str(FAKE)
    text = " ".join(arguments).replace(str(source.path), "R").replace(release.id, "ID")
    assert text == (
        "--model R/gguf/toy.Q8_0.gguf --alias toolsmith,ID --host 127.0.0.1 --port 8080 "
        "--ctx-size 4096 --parallel 2 --no-kv-unified --fit off --threads 3 --threads-batch 3 "
        "--jinja --chat-template-file R/merged/chat_template.jinja --cache-ram 512 --temp 1.0 "
        "--top-k 0 --top-p 1.0 --min-p 0.0 --metrics --slots --no-ui --offline "
        "--cors-origins localhost"
    )


def test_the_two_forms_of_llamacpp_settings_agree(tmp_path: Path, release: Manifest) -> None:
    source, settings = made(tmp_path, slots=3, context_length=1024, prompt_cache_mib=7)
    engine = LlamaCpp(source, settings).settings
    params = common_params(engine, api_key="k")
    assert params.model.path == str(source.gguf())
    assert set(params.model_alias) == {"toolsmith", release.id}
    assert params.chat_template == TEMPLATE
    assert (params.n_ctx, params.n_parallel, params.kv_unified) == (3 * 1024, 3, False)
    assert (params.cpuparams.n_threads, params.cpuparams_batch.n_threads) == (3, 3)
    assert (params.hostnames, params.port) == (["127.0.0.1"], 8080)
    assert (params.cache_ram_mib, params.api_keys) == (7, ["k"])
    assert (params.use_jinja, params.endpoint_metrics, params.endpoint_slots) == (True,) * 3
    assert (params.ui, params.fit_params) == (False, False)
    assert (params.sampling.temp, params.sampling.top_k, params.sampling.min_p) == (1.0, 0, 0.0)
    # One flag for each attribute, whatever is added later.
    assert sum(text.startswith("--") for text in flags(engine)) == len(native_params(engine))


def test_llamacpp_settings_survive_the_way_to_the_process() -> None:
    settings = LlamaCppSettings(
        "m.gguf", ("a", "b"), "::1", 1, 512, 2, 1, "t.jinja", 0, Sampling(0.5, 0.9, 40, 0.1)
    )
    assert LlamaCppSettings.from_json(settings.to_json()) == settings


def test_llamacpp_environment(
    tmp_path: Path, release: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_ARG_PORT", "1")
    monkeypatch.setenv("TOOLSMITH_ENGINE_KEY", "secret")
    program = LlamaCpp(*made(tmp_path)).program
    environment = program.environment()
    assert "LLAMA_ARG_PORT" not in environment
    assert environment["OMP_WAIT_POLICY"] == "passive"
    assert environment["LLAMA_API_KEY"] == "secret"
    assert "secret" not in " ".join(program.argv)
    assert "secret" not in repr(program.key and program.argv)


def test_a_llama_server_that_is_not_there_is_an_error(tmp_path: Path, release: Manifest) -> None:
    with pytest.raises(ServeError, match=r"TOOLSMITH_LLAMA_SERVER names .*missing"):
        LlamaCpp(*made(tmp_path, llama_server=tmp_path / "missing"))


def test_vllm_flags_on_a_cpu(tmp_path: Path, release: Manifest) -> None:
    source, settings = made(tmp_path, vllm_python=FAKE, vllm_device="cpu")
    python, *arguments = Vllm(source, settings).program.argv
    assert python == str(FAKE)
    text = " ".join(arguments).replace(str(source.path), "R").replace(release.id, "ID")
    assert text == (
        "-m vllm.entrypoints.openai.api_server --model R/merged --served-model-name toolsmith ID "
        "--host 127.0.0.1 --port 8000 --chat-template R/merged/chat_template.jinja "
        "--enable-auto-tool-choice --tool-call-parser hermes --max-model-len 2048 "
        "--dtype float32 --generation-config vllm --enforce-eager --max-num-seqs 16"
    )


def test_vllm_on_a_gpu_takes_the_dtype_of_the_release(tmp_path: Path, release: Manifest) -> None:
    source, settings = made(tmp_path, vllm_python=FAKE, vllm_device="gpu")
    served = source.manifest.served.model_copy(update={"dtype": "bfloat16"})
    source = Source(source.manifest.model_copy(update={"served": served}), source.path)
    program = Vllm(source, settings).program
    assert program.argv[program.argv.index("--dtype") + 1] == "bfloat16"
    assert "--enforce-eager" not in program.argv
    assert "OMP_NUM_THREADS" not in program.env


def test_vllm_is_given_the_sampling_that_llamacpp_is_given(
    tmp_path: Path, release: Manifest
) -> None:
    source, settings = made(tmp_path, vllm_python=FAKE, llama_server=FAKE)
    config = {"temperature": 0.2, "top_p": 0.8, "repetition_penalty": 2.0}
    (source.merged / "generation_config.json").write_text(json.dumps(config))
    argv = Vllm(source, settings).program.argv
    override = json.loads(argv[argv.index("--override-generation-config") + 1])
    assert override == {"temperature": 0.2, "top_p": 0.8}
    llamacpp = LlamaCpp(source, settings).program.argv
    assert llamacpp[llamacpp.index("--temp") + 1] == "0.2"


def test_vllm_that_is_not_installed_is_an_error(tmp_path: Path, release: Manifest) -> None:
    with pytest.raises(ServeError, match="--no-vllm"):
        Vllm(*made(tmp_path, vllm_python=tmp_path / "missing"))


def test_gauge_sums_over_labels() -> None:
    text = '# HELP a\na{x="1"} 2.0\na{x="2"} 1\nb 4\nab 8\na_total 16\n'
    assert gauge(text, "a") == 3
    assert gauge(text, "a", "b") == 7
    assert gauge(text, "c") == 0


def test_url_of_reaches_a_wildcard_on_this_machine() -> None:
    assert url_of("0.0.0.0", 1) == "http://127.0.0.1:1"
    assert url_of("::", 1) == "http://[::1]:1"
    assert url_of("engine", 1) == "http://engine:1"


def with_parser(release: Manifest, name: str) -> Manifest:
    engines = release.served.engines.model_copy(update={"vllm_tool_parser": name})
    served = release.served.model_copy(update={"engines": engines})
    return release.model_copy(update={"served": served})


def test_vllm_loads_our_own_parser_where_the_release_names_it(
    tmp_path: Path, release: Manifest
) -> None:
    source, settings = made(tmp_path, vllm_device="cpu")
    assert "--tool-parser-plugin" not in vllm_flags(source, settings, 64, on_cpu=True)
    ours = replace(source, manifest=with_parser(release, "toolsmith_nemotron"))
    arguments = vllm_flags(ours, settings, 64, on_cpu=True)
    assert arguments[arguments.index("--tool-call-parser") + 1] == "toolsmith_nemotron"
    plugin = Path(arguments[arguments.index("--tool-parser-plugin") + 1])
    assert 'NAME = "toolsmith_nemotron"' in plugin.read_text(encoding="utf-8")


def test_a_parser_of_a_later_toolsmith_is_refused(tmp_path: Path, release: Manifest) -> None:
    source, settings = made(tmp_path, vllm_device="cpu")
    later = replace(source, manifest=with_parser(release, "toolsmith_other"))
    with pytest.raises(ServeError, match=r"toolsmith_other.*with a newer Toolsmith"):
        vllm_flags(later, settings, 64, on_cpu=True)


def test_every_parser_that_training_names_is_known() -> None:
    for template in KNOWN.values():
        name = template.engines.vllm_tool_parser
        assert name in PARSER_PLUGINS or not name.startswith("toolsmith_")
