"""From engines and a release to LiteLLM's configuration.

The typed form is `GatewayConfig`; `litellm_config` writes it in the shape of LiteLLM's config.yaml
(https://docs.litellm.ai/docs/proxy/config_settings), checked against litellm 1.106.2.
"""

from __future__ import annotations

import os
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field

from gateway.errors import UsageError

EngineName = Literal["gpu", "cpu"]
# The order of use: an engine is asked only when those before it cannot answer.
# The key that the engines ask for, where they ask for one.
ENGINE_KEY = "TOOLSMITH_ENGINE_KEY"
ENGINE_ORDER: tuple[EngineName, ...] = ("gpu", "cpu")
DEFAULT_MODEL_NAME = "toolsmith"
# Where LiteLLM reads its own key; gateway.server makes a new one for each start.
INTERNAL_KEY_VARIABLE = "LITELLM_MASTER_KEY"


class Engine(BaseModel):
    """One engine: `gpu` is vLLM, `cpu` is llama.cpp; `url` has no trailing slash and no /v1."""

    model_config = ConfigDict(frozen=True)

    name: EngineName
    url: str


class Timeouts(BaseModel):
    """Limits in seconds.

    A model on a CPU may take minutes over a plain answer, so `request_s` is long. A dead engine is
    left long before that: a refused connection fails at once, and a hanging one is seen by the
    health probe or costs a stream `first_byte_s`.
    """

    model_config = ConfigDict(frozen=True)

    request_s: float = Field(default=600.0, gt=0)
    # Also the longest gap between two chunks of a stream. Only an engine that another one can
    # stand in for has this short limit; the last one may take request_s.
    first_byte_s: float = Field(default=20.0, gt=0)
    probe_interval_s: float = Field(default=1.0, gt=0)
    health_s: float = Field(default=2.0, gt=0)
    # One generated token; long, since it may wait behind a real request on a CPU.
    proof_s: float = Field(default=60.0, gt=0)


class GatewayConfig(BaseModel):
    """All that the gateway needs to know to route requests."""

    model_config = ConfigDict(frozen=True)

    model_name: str = Field(
        default=DEFAULT_MODEL_NAME, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
    )
    release_id: str
    engines: tuple[Engine, ...] = Field(min_length=1)
    timeouts: Timeouts = Timeouts()

    def last_resort(self) -> Engine:
        """The engine that no other one stands behind."""
        return self.engines[-1]


def parse_engines(specs: list[str]) -> tuple[Engine, ...]:
    """Read `NAME=URL` specs into engines, in the order of use.

    Raises:
        UsageError: no spec, an unknown or doubled name, or something that is no http URL.
    """
    found: dict[EngineName, Engine] = {}
    for spec in specs:
        engine = _parse_engine(spec)
        if engine.name in found:
            raise UsageError(f"--engine {engine.name} is given twice; give each engine once")
        found[engine.name] = engine
    if not found:
        raise UsageError("no engine: give at least one --engine, e.g. cpu=http://127.0.0.1:8080")
    return tuple(found[name] for name in ENGINE_ORDER if name in found)


def _parse_engine(spec: str) -> Engine:
    name, equals, url = spec.partition("=")
    known = " or ".join(ENGINE_ORDER)
    if not equals:
        raise UsageError(f"--engine {spec!r} is not NAME=URL, e.g. cpu=http://127.0.0.1:8080")
    matched = next((known_name for known_name in ENGINE_ORDER if known_name == name), None)
    if matched is None:
        raise UsageError(f"--engine {spec!r}: unknown engine {name!r}; it must be {known}")
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or parts.query or parts.fragment or parts.username:
        raise UsageError(f"--engine {spec!r}: {url!r} is not a base URL like http://127.0.0.1:8080")
    return Engine(name=matched, url=url.rstrip("/").removesuffix("/v1"))


def deployment_id(model_name: str, engine: EngineName) -> str:
    """LiteLLM's id of one engine under one name; ids must differ between names."""
    return f"{model_name}#{engine}"


def engine_of(deployment: object) -> EngineName | None:
    """The engine in a deployment id; None when it is not one of ours."""
    name = str(deployment).rpartition("#")[2]
    return next((engine for engine in ENGINE_ORDER if engine == name), None)


def litellm_config(config: GatewayConfig) -> dict[str, Any]:
    """The whole of LiteLLM's configuration; it holds no secret."""
    models = [_deployment(config, config.model_name, engine) for engine in config.engines]
    models += [_deployment(config, config.release_id, engine) for engine in config.engines]
    models += [
        _deployment(config, f"{config.model_name}@{engine.name}", engine)
        for engine in config.engines
    ]
    return {
        "model_list": models,
        "router_settings": {
            # The next `order` is the retry. Retries within one engine only add waiting.
            "num_retries": 0,
            "retry_after": 0,
            # LiteLLM's cooldown counts a client's mistake as the engine's: one bad request would
            # take both engines out. gateway.health decides instead, by active probes.
            "disable_cooldowns": True,
            "timeout": config.timeouts.request_s,
        },
        "litellm_settings": {
            "drop_params": False,
            "telemetry": False,
            "turn_off_message_logging": True,
            "redact_messages_in_exceptions": True,
            "expose_router_debug_in_errors": False,
            "request_timeout": config.timeouts.request_s,
        },
        "general_settings": {
            "master_key": f"os.environ/{INTERNAL_KEY_VARIABLE}",
            # A client that hangs up must free the engine: on a CPU a lost answer costs minutes.
            "cancel_on_disconnect": True,
            "disable_spend_logs": True,
            "disable_model_info_refresh": True,
        },
    }


def litellm_yaml(config: GatewayConfig) -> str:
    """`litellm_config` as the text of a config.yaml."""
    return yaml.safe_dump(litellm_config(config), sort_keys=False, allow_unicode=True)


def _deployment(config: GatewayConfig, name: str, engine: Engine) -> dict[str, Any]:
    limits = config.timeouts
    replaceable = engine != config.last_resort() and "@" not in name
    return {
        "model_name": name,
        "litellm_params": {
            # hosted_vllm/ speaks plain OpenAI and adds nothing; both engines do.
            "model": f"hosted_vllm/{config.model_name}",
            "api_base": f"{engine.url}/v1",
            # By reference: this configuration is printed and holds no secret.
            "api_key": f"os.environ/{ENGINE_KEY}" if os.environ.get(ENGINE_KEY) else "none",
            "order": ENGINE_ORDER.index(engine.name) + 1,
            "timeout": limits.request_s,
            "stream_timeout": limits.first_byte_s if replaceable else limits.request_s,
            "max_retries": 0,
        },
        "model_info": {"id": deployment_id(name, engine.name), "mode": "chat"},
    }
