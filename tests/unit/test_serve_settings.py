"""Settings, the release they choose, and the key."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from release.manifest import Manifest
from release.store import ReleaseStore
from serve.errors import ServeError
from serve.keys import ensure_key, read_key
from serve.settings import load_settings
from serve.source import Sampling, Source, select
from tests.release_bundle import sealed


@pytest.fixture
def release(tmp_path: Path) -> Manifest:
    store = ReleaseStore(tmp_path / "models")
    manifest = sealed(store)
    store.set_channel("stable", manifest.id)
    return manifest


def test_environment_overrides_the_default_and_an_argument_overrides_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert load_settings().llamacpp_port == 8080
    monkeypatch.setenv("TOOLSMITH_LLAMACPP_PORT", "9000")
    assert load_settings().llamacpp_port == 9000
    assert load_settings({"llamacpp_port": 9001, "slots": None}).llamacpp_port == 9001


def test_a_bad_value_names_where_it_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ServeError, match="--gateway-port 70000"):
        load_settings({"gateway_port": 70000})
    monkeypatch.setenv("TOOLSMITH_SLOTS", "many")
    with pytest.raises(ServeError, match="TOOLSMITH_SLOTS 'many'"):
        load_settings()


def test_an_engine_beyond_loopback_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().secret_engine_key() is None
    with pytest.raises(ServeError, match="TOOLSMITH_ENGINE_KEY"):
        load_settings({"host": "0.0.0.0"}).secret_engine_key()
    monkeypatch.setenv("TOOLSMITH_ENGINE_KEY", "k")
    assert load_settings({"host": "0.0.0.0"}).secret_engine_key() == "k"
    assert "'k'" not in repr(load_settings())


def test_select_takes_the_channel_or_a_reference(tmp_path: Path, release: Manifest) -> None:
    settings = load_settings({"store": tmp_path / "models"})
    assert select(settings).manifest.id == release.id
    assert select(settings, release.id[:8]).path.name == release.id
    with pytest.raises(ServeError, match="no release or channel 'nope'"):
        select(settings, "nope")
    with pytest.raises(ServeError, match="no channel 'beta'"):
        select(load_settings({"store": tmp_path / "models", "channel": "beta"}))


def test_gguf_prefers_small_and_refuses_what_is_not_there(tmp_path: Path) -> None:
    store = ReleaseStore(tmp_path)
    source = _with_quants(sealed(store), "Q8_0", "Q4_K_M", "F16")
    assert source.gguf() == Path("x/gguf/toy.Q4_K_M.gguf")
    assert source.gguf("F16") == Path("x/gguf/toy.F16.gguf")
    with pytest.raises(ServeError, match="no GGUF of Q2_K; it has Q8_0, Q4_K_M, F16"):
        source.gguf("Q2_K")


def test_context_length_never_exceeds_the_release(tmp_path: Path) -> None:
    source = Source(sealed(ReleaseStore(tmp_path)), tmp_path)
    assert source.context_length(None) == 2048
    assert source.context_length(512) == 512
    with pytest.raises(ServeError, match="spans 2048 tokens, not 4096"):
        source.context_length(4096)


def test_sampling_comes_from_the_release_without_penalties(tmp_path: Path) -> None:
    source = Source(sealed(ReleaseStore(tmp_path / "store")), tmp_path)
    assert source.sampling() == Sampling()
    source.merged.mkdir()
    config = {"temperature": 0.0, "top_k": 20, "repetition_penalty": 1.3, "eos_token_id": 2}
    path = source.merged / "generation_config.json"
    path.write_text(json.dumps(config))
    assert source.sampling() == Sampling(temperature=0.0, top_k=20)
    path.write_text("[")
    with pytest.raises(ServeError, match="is damaged"):
        source.sampling()


def test_the_key_is_made_once_and_private(tmp_path: Path) -> None:
    settings = load_settings({"cache": tmp_path})
    assert read_key(settings) is None
    assert ensure_key(settings) is True
    key = read_key(settings)
    assert key is not None
    assert len(key) > 40
    assert stat.S_IMODE(settings.key_file.stat().st_mode) == 0o600
    assert ensure_key(settings) is False
    assert read_key(settings) == key


def test_a_given_key_replaces_the_one_in_the_file(tmp_path: Path) -> None:
    ensure_key(load_settings({"cache": tmp_path}))
    settings = load_settings({"cache": tmp_path, "api_key": "mine"})
    assert ensure_key(settings) is True
    assert settings.key_file.read_text() == "mine\n"
    assert stat.S_IMODE(settings.key_file.stat().st_mode) == 0o600


def _with_quants(manifest: Manifest, *quants: str) -> Source:
    file = manifest.files[0]
    files = [file.model_copy(update={"path": f"gguf/toy.{quant}.gguf"}) for quant in quants]
    return Source(manifest.model_copy(update={"files": files}), Path("x"))
