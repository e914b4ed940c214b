"""Settings of serving: each default stands here once; environment and command line override it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from serve.errors import ServeError

PREFIX = "TOOLSMITH_"
Port = int
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Settings(BaseSettings):
    """What the launchers and the native stack need to know besides the release itself.

    Every field is also an environment variable, TOOLSMITH_<FIELD>.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True)

    store: Path = Field(Path("models"), description="Folder of the release store")
    cache: Path = Field(Path(".cache"), description="Folder for state, logs and the API key")
    channel: str = Field("stable", description="Channel whose release is served")
    model_name: str = Field(
        "toolsmith",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Public name of the model; the release id is its second name",
    )
    host: str = Field("127.0.0.1", description="Address to listen on; a wider one needs a key")
    gateway_port: Port = Field(4000, ge=1, le=65535, description="Port of the gateway")
    llamacpp_port: Port = Field(8080, ge=1, le=65535, description="Port of llama.cpp")
    vllm_port: Port = Field(8000, ge=1, le=65535, description="Port of vLLM")
    api_key: SecretStr | None = Field(
        None, description="Key that the gateway asks of clients; made once where not given"
    )
    engine_key: SecretStr | None = Field(
        None, description="Key that the engines ask for; needed where they listen beyond loopback"
    )
    context_length: int | None = Field(
        None, ge=256, description="Tokens a request may span; not given: what the release allows"
    )
    threads: int | None = Field(
        None, ge=1, description="Threads of an engine; not given: the cores that are idle now"
    )
    start_seconds: float = Field(600, gt=0, description="Longest wait for an engine's first token")
    drain_seconds: float = Field(
        60, ge=0, description="Longest wait for running requests when an engine stops"
    )
    quant: str | None = Field(
        None, description="Quantization for llama.cpp; not given: the best that the release has"
    )
    slots: int = Field(2, ge=1, description="Requests that llama.cpp answers at once")
    prompt_cache_mib: int = Field(
        512, ge=0, description="Memory for llama.cpp's cache of old prompts, in MiB"
    )
    llama_server: Path | None = Field(
        None, description="llama-server to run; not given: the one on PATH, else xllamacpp"
    )
    vllm_python: Path = Field(
        Path(".venvs/vllm/bin/python"), description="Interpreter that vLLM is installed in"
    )
    vllm_device: Literal["auto", "cpu", "gpu"] = Field(
        "auto", description="What vLLM runs on; auto: a GPU where there is one"
    )
    vllm_kv_cache_gib: int = Field(
        1, ge=1, description="Memory for vLLM's key-value cache on a CPU, in GiB"
    )
    vllm_max_seqs: int = Field(
        16, ge=1, description="Requests that vLLM answers at once on a CPU; a GPU decides itself"
    )
    gateway_python: Path = Field(
        Path(".venvs/gateway/bin/python"), description="Interpreter that the gateway runs in"
    )

    @property
    def run_dir(self) -> Path:
        """Where the native stack keeps its state, logs and key."""
        return self.cache / "run"

    @property
    def key_file(self) -> Path:
        """The gateway's API key, readable by its owner alone."""
        return self.run_dir / "api_key"

    def secret_engine_key(self) -> str | None:
        """The engines' key in the clear.

        Raises:
            ServeError: the engines would listen beyond loopback without one.
        """
        if self.engine_key is not None:
            return self.engine_key.get_secret_value()
        if self.host not in LOOPBACK:
            raise ServeError(
                f"an engine on {self.host} is open to other machines: "
                f"set {PREFIX}ENGINE_KEY, or listen on 127.0.0.1"
            )
        return None


def load_settings(overrides: Mapping[str, Any] | None = None) -> Settings:
    """Settings from defaults, environment and `overrides` (None values count as not given).

    Raises:
        ServeError: a value does not fit; the message names the variable.
    """
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        value = "" if "key" in field else f" {first['input']!r}"
        variable = f"{PREFIX}{field.upper()}"
        option = f"--{field.replace('_', '-')}"
        where = option if field in given or variable not in os.environ else variable
        raise ServeError(f"{where}{value}: {first['msg']}") from None
