"""Engine specs, LiteLLM's configuration, the key file and the bind rules."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from gateway.config import (
    Engine,
    GatewayConfig,
    Timeouts,
    deployment_id,
    engine_of,
    litellm_yaml,
    parse_engines,
)
from gateway.errors import GatewayError, UsageError
from gateway.server import bind, prepare_environment, read_key, require_key_beyond_loopback

RELEASE = "demo-20261123-0a1b2c3d"
BOTH = ["cpu=http://127.0.0.1:8080", "gpu=http://127.0.0.1:8000"]


def config(*specs: str) -> GatewayConfig:
    return GatewayConfig(release_id=RELEASE, engines=parse_engines(list(specs or BOTH)))


def test_engines_come_in_the_order_of_use() -> None:
    assert [engine.name for engine in parse_engines(BOTH)] == ["gpu", "cpu"]


@pytest.mark.parametrize(
    "url", ["http://h:8000", "http://h:8000/", "http://h:8000/v1", "http://h:8000/v1/"]
)
def test_engine_urls_lose_slash_and_v1(url: str) -> None:
    assert parse_engines([f"gpu={url}"]) == (Engine(name="gpu", url="http://h:8000"),)


@pytest.mark.parametrize(
    ("specs", "said"),
    [
        ([], "no engine"),
        (["gpu"], "not NAME=URL"),
        (["tpu=http://h:1"], "unknown engine 'tpu'"),
        (["gpu=h:8000"], "not a base URL"),
        (["gpu=http://"], "not a base URL"),
        (["gpu=http://h:99999"], "not a base URL"),
        (["gpu=http://user:pw@h:1"], "not a base URL"),
        (["gpu=file:///etc/passwd"], "not a base URL"),
        (["cpu=http://h:1", "cpu=http://h:2"], "given twice"),
    ],
)
def test_bad_engine_specs_say_what_is_wrong(specs: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_engines(specs)


def test_model_list_has_every_name_with_its_engines() -> None:
    models = yaml.safe_load(litellm_yaml(config()))["model_list"]
    names = [(m["model_name"], m["litellm_params"]["order"]) for m in models]
    assert names == [
        ("toolsmith", 1),
        ("toolsmith", 2),
        (RELEASE, 1),
        (RELEASE, 2),
        ("toolsmith@gpu", 1),
        ("toolsmith@cpu", 2),
    ]
    ids = [m["model_info"]["id"] for m in models]
    assert len(set(ids)) == len(ids)
    assert {m["litellm_params"]["model"] for m in models} == {"hosted_vllm/toolsmith"}


def test_only_a_replaceable_engine_has_the_short_stream_timeout() -> None:
    limits = Timeouts()
    models = yaml.safe_load(litellm_yaml(config()))["model_list"]
    short = [
        m["model_info"]["id"]
        for m in models
        if m["litellm_params"]["stream_timeout"] == limits.first_byte_s
    ]
    assert short == ["toolsmith#gpu", f"{RELEASE}#gpu"]
    alone = yaml.safe_load(litellm_yaml(config("gpu=http://h:1")))["model_list"]
    assert {m["litellm_params"]["stream_timeout"] for m in alone} == {limits.request_s}


def test_no_retries_no_cooldowns_no_secret() -> None:
    text = litellm_yaml(config())
    router = yaml.safe_load(text)["router_settings"]
    assert router["num_retries"] == 0
    assert router["disable_cooldowns"] is True
    assert yaml.safe_load(text)["general_settings"]["master_key"].startswith("os.environ/")


@pytest.mark.parametrize("name", ["", "a b", "a@gpu", "a#b", "../x", "-x"])
def test_model_names_that_would_confuse_the_names_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        GatewayConfig(model_name=name, release_id=RELEASE, engines=parse_engines(BOTH))


def test_deployment_id_gives_its_engine_back() -> None:
    assert engine_of(deployment_id("toolsmith@cpu", "cpu")) == "cpu"
    for other in (None, "", "toolsmith", "toolsmith#tpu", 7):
        assert engine_of(other) is None


def test_key_is_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("  secret \nnot this\n")
    assert read_key(path) == "secret"


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read"), ("", "is empty"), ("\nkey", "is empty"), ("a b", "space")],
)
def test_bad_key_files_are_named(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_text(content)
    with pytest.raises(GatewayError, match=said) as caught:
        read_key(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org"])
def test_without_a_key_only_loopback(host: str) -> None:
    with pytest.raises(UsageError, match="--key-file"):
        require_key_beyond_loopback(host, None)
    require_key_beyond_loopback(host, "key")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_key(host: str) -> None:
    require_key_beyond_loopback(host, None)


def test_a_taken_port_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(GatewayError, match=f"port {port} on 127.0.0.1 is taken"):
            bind("127.0.0.1", port)


def test_environment_is_offline_and_keeps_no_database(tmp_path: Path) -> None:
    environment = {
        "PATH": "/bin",
        "DATABASE_URL": "postgres://x",
        "REDIS_HOST": "x",
        "LITELLM_SALT_KEY": "x",
        "HOSTED_VLLM_API_BASE": "x",
        "WORKER_CONFIG": "x",
    }
    first = prepare_environment(environment, tmp_path / "config.yaml")
    assert environment["PATH"] == "/bin"
    assert environment["LITELLM_LOCAL_MODEL_COST_MAP"] == "True"
    assert environment["LITELLM_MASTER_KEY"] == first
    assert not {"DATABASE_URL", "REDIS_HOST", "LITELLM_SALT_KEY", "WORKER_CONFIG"} & {*environment}
    assert prepare_environment(environment, tmp_path / "config.yaml") != first
