"""llama.cpp's settings in one place, in both forms: llama-server's flags and xllamacpp's params."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from serve.process import idle_cores
from serve.settings import Settings
from serve.source import Sampling, Source


@dataclass(frozen=True)
class LlamaCppSettings:
    """What a llama.cpp server is started with.

    `context` is in tokens and for each of the `slots`; `prompt_cache_mib` bounds the cache of old
    prompts in main memory.
    """

    model: str
    aliases: tuple[str, ...]
    host: str
    port: int
    context: int
    slots: int
    threads: int
    chat_template: str
    prompt_cache_mib: int
    sampling: Sampling = field(default_factory=Sampling)

    def to_json(self) -> str:
        """For the process that runs the server."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> LlamaCppSettings:
        """The opposite of `to_json`."""
        raw = json.loads(text)
        raw["aliases"] = tuple(raw["aliases"])
        return cls(**{**raw, "sampling": Sampling(**raw["sampling"])})


def llamacpp_settings(source: Source, settings: Settings) -> LlamaCppSettings:
    """What to start for a release.

    Raises:
        ServeError: the release has no fitting GGUF, or spans fewer tokens than asked for.
    """
    return LlamaCppSettings(
        model=str(source.gguf(settings.quant)),
        aliases=(settings.model_name, source.manifest.id),
        host=settings.host,
        port=settings.llamacpp_port,
        context=source.context_length(settings.context_length),
        slots=settings.slots,
        threads=settings.threads or idle_cores(),
        chat_template=str(source.chat_template),
        prompt_cache_mib=settings.prompt_cache_mib,
        sampling=source.sampling(),
    )


Value = str | int | float | None


@dataclass(frozen=True)
class _Option:
    """One setting in both forms: a flag with its value, and an attribute of CommonParams.

    A flag whose value is None is a switch; `native` turns the flag's value into the attribute's.
    """

    flag: str
    param: str
    value: Callable[[LlamaCppSettings], Value]
    native: Callable[[Any], Any] = lambda value: value


def _switch(flag: str, param: str, on: bool = True) -> _Option:
    return _Option(flag, param, lambda _: None, lambda _: on)


_OPTIONS = (
    _Option("--model", "model.path", lambda s: s.model),
    _Option("--alias", "model_alias", lambda s: ",".join(s.aliases), lambda v: set(v.split(","))),
    _Option("--host", "hostnames", lambda s: s.host, lambda v: [v]),
    _Option("--port", "port", lambda s: s.port),
    # llama.cpp divides its context by the slots.
    _Option("--ctx-size", "n_ctx", lambda s: s.context * s.slots),
    _Option("--parallel", "n_parallel", lambda s: s.slots),
    _switch("--no-kv-unified", "kv_unified", False),
    # Never shrink the context to what fits in memory: fail instead.
    _Option("--fit", "fit_params", lambda _: "off", lambda v: v == "on"),
    _Option("--threads", "cpuparams.n_threads", lambda s: s.threads),
    _Option("--threads-batch", "cpuparams_batch.n_threads", lambda s: s.threads),
    _switch("--jinja", "use_jinja"),
    _Option(
        "--chat-template-file",
        "chat_template",
        lambda s: s.chat_template,
        lambda v: Path(v).read_text(encoding="utf-8"),
    ),
    _Option("--cache-ram", "cache_ram_mib", lambda s: s.prompt_cache_mib),
    _Option("--temp", "sampling.temp", lambda s: s.sampling.temperature),
    _Option("--top-k", "sampling.top_k", lambda s: s.sampling.top_k),
    _Option("--top-p", "sampling.top_p", lambda s: s.sampling.top_p),
    _Option("--min-p", "sampling.min_p", lambda s: s.sampling.min_p),
    _switch("--metrics", "endpoint_metrics"),
    _switch("--slots", "endpoint_slots"),
    _switch("--no-ui", "ui", False),
    _switch("--offline", "offline"),
    # Without this any web page that the user opens could use the engine.
    _Option("--cors-origins", "cors_origins", lambda _: "localhost"),
)


def flags(settings: LlamaCppSettings) -> list[str]:
    """The arguments of llama-server."""
    arguments: list[str] = []
    for option in _OPTIONS:
        value = option.value(settings)
        arguments += [option.flag] if value is None else [option.flag, str(value)]
    return arguments


def native_params(settings: LlamaCppSettings) -> dict[str, Any]:
    """Dotted attributes of xllamacpp's CommonParams and their values."""
    return {option.param: option.native(option.value(settings)) for option in _OPTIONS}
