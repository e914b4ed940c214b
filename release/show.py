"""How releases look on a terminal; made to be pasted into a review, so without frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from release.channels import Channel
from release.files import human_size
from release.manifest import Manifest, Score


def list_table(releases: Sequence[Manifest], channels: Sequence[Channel]) -> Table:
    """One line a release: id, age, base, scores, size, channels."""
    table = _table("release", "created (UTC)", "base", "score", "size", "channel")
    for column in table.columns:
        # On a narrow terminal the others fold, and an id can still be copied.
        column.no_wrap = column.header in ("release", "score", "size")
    for manifest in releases:
        table.add_row(
            Text(manifest.id, style="bold"),
            _time(manifest.created),
            Text(manifest.base.name),
            # Of the first set, which the trainer puts first; `show` has them all.
            _change(manifest.scores[0]) if manifest.scores else "-",
            human_size(_size(manifest)),
            Text(", ".join(_channels_of(manifest.id, channels)), style="green"),
        )
    return table


def release_page(manifest: Manifest, channels: Sequence[Channel], path: str) -> Group:
    """Everything a reviewer asks about one release."""
    served = manifest.served
    quants = ", ".join(manifest.gguf()) or "-"
    names = ", ".join(_channels_of(manifest.id, channels)) or "none"
    facts = _pairs(
        {
            "created": f"{_time(manifest.created)} UTC",
            "channel": names,
            "base": f"{manifest.base.name} @ {manifest.base.revision}",
            "data": f"{manifest.dataset.name} @ {manifest.dataset.revision}, "
            f"{manifest.dataset.rows:,} rows, sha256 {manifest.dataset.sha256[:12]}",
            "training": _flat(manifest.training),
            "libraries": _flat(manifest.libraries),
            "template": f"{served.chat_template_file}, sha256 {served.chat_template_sha256[:12]}",
            "tool calls": f"{served.tool_format}; vLLM parser {served.engines.vllm_tool_parser}",
            "tokens": f"bos {_id(served.bos_token_id)}, eos {served.eos_token_id}, "
            f"stop {' '.join(served.stop_tokens) or '-'}",
            "context": f"{served.context_length:,} tokens, {served.dtype}, GGUF {quants}",
            "parity": "not proven yet" if manifest.parity is None else _flat(manifest.parity),
            "content": f"sha256 {manifest.content_sha256}",
            "folder": path,
        }
    )
    parts: list[RenderableType] = [Text(manifest.id, style="bold"), facts]
    if manifest.scores:
        parts += [Text(), _scores(manifest.scores)]
    return Group(*parts, Text(), _files(manifest))


def _scores(scores: Iterable[Score]) -> Table:
    table = _table("held-out set", "cases", "base → tuned", right=("cases",))
    for score in scores:
        table.add_row(Text(score.set), str(score.cases), _change(score))
    return table


def _files(manifest: Manifest) -> Table:
    table = _table("file", "size", "sha256", right=("size",))
    for file in manifest.files:
        table.add_row(Text(file.path), human_size(file.size), Text(file.sha256[:12], style="dim"))
    total = Text(f"{len(manifest.files)} files", style="bold")
    table.add_row(total, Text(human_size(_size(manifest)), style="bold"), "")
    return table


def _table(*columns: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        # Fold, never cut: an id that is shown in part cannot be copied.
        table.add_column(column, overflow="fold", justify="right" if column in right else "left")
    return table


def _pairs(pairs: dict[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in pairs.items():
        table.add_row(key, Text(value))
    return table


def _flat(values: Mapping[str, Any]) -> str:
    return ", ".join(_entries(values)) or "-"


def _entries(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """`key=value`, nested mappings with dots: {"lora": {"r": 16}} → lora.r=16."""
    for key, value in sorted(values.items()):
        if isinstance(value, Mapping):
            yield from _entries(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}={value}"


def _change(score: Score) -> str:
    base = "-" if score.base is None else f"{score.base:.3f}"
    return f"{base} → {score.tuned:.3f}"


def _id(token: int | None) -> str:
    return "none" if token is None else str(token)


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def _size(manifest: Manifest) -> int:
    return sum(file.size for file in manifest.files)


def _channels_of(release_id: str, channels: Iterable[Channel]) -> list[str]:
    return [channel.name for channel in channels if channel.release == release_id]
