"""Command-line options made from the settings, so that name, default and help stand there once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from serve.settings import PREFIX, Settings


def _setting(field: str) -> Any:
    """The option --<field> of a setting; None where it is not given on the command line."""
    info = Settings.model_fields[field]
    default = "" if info.default is None else f" Default: {info.default}."
    return typer.Option(
        f"--{field.replace('_', '-')}",
        help=f"{info.description}.{default} Variable: {PREFIX}{field.upper()}.",
        show_default=False,
    )


Store = Annotated[Path | None, _setting("store")]
Cache = Annotated[Path | None, _setting("cache")]
Channel = Annotated[str | None, _setting("channel")]
ModelName = Annotated[str | None, _setting("model_name")]
Host = Annotated[str | None, _setting("host")]
LlamacppPort = Annotated[int | None, _setting("llamacpp_port")]
Quant = Annotated[str | None, _setting("quant")]
ContextLength = Annotated[int | None, _setting("context_length")]
Slots = Annotated[int | None, _setting("slots")]
Threads = Annotated[int | None, _setting("threads")]
PromptCacheMib = Annotated[int | None, _setting("prompt_cache_mib")]
LlamaServer = Annotated[Path | None, _setting("llama_server")]
StartSeconds = Annotated[float | None, _setting("start_seconds")]
DrainSeconds = Annotated[float | None, _setting("drain_seconds")]
VllmPort = Annotated[int | None, _setting("vllm_port")]
VllmPython = Annotated[Path | None, _setting("vllm_python")]
VllmDevice = Annotated[str | None, _setting("vllm_device")]
VllmKvCacheGib = Annotated[int | None, _setting("vllm_kv_cache_gib")]
VllmMaxSeqs = Annotated[int | None, _setting("vllm_max_seqs")]
GatewayPort = Annotated[int | None, _setting("gateway_port")]
GatewayPython = Annotated[Path | None, _setting("gateway_python")]
