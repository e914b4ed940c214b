"""`data`: look at a data set before training on it."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.text import Text

from train.config import TrainConfig, load_config
from train.data.inspection import Inspection, inspect_row, render, runs
from train.data.reading import Source
from train.data.report import DataReport
from train.data.rows import source as configured_source
from train.errors import ConfigError, TrainError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

console = Console(stderr=True)
out = Console()
app = typer.Typer(
    help="Look at a data set before training on it.", no_args_is_help=True, add_completion=False
)

Data = Annotated[str, typer.Argument(help="A file or folder of rows, or a hub id.")]
FormatName = Annotated[
    str | None,
    typer.Option("--format", help="glaive, openai, sharegpt, hermes, xlam; by default detected."),
]
Profile = Annotated[str, typer.Option(help="Profile that gives the base, template and lengths.")]
Base = Annotated[str | None, typer.Option(help="Whose tokenizer; by default the profile's base.")]
Template = Annotated[str | None, typer.Option(help="Chat template; by default the profile's.")]
Revision = Annotated[str | None, typer.Option(help="Hub revision of the data.")]
Split = Annotated[str | None, typer.Option(help="Hub split of the data.")]
Subset = Annotated[str | None, typer.Option(help="Hub subset of the data.")]
Tokens = Annotated[
    bool, typer.Option("--tokens/--no-tokens", help="Render and tokenize; needs the libraries.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Cache = Annotated[
    Path, typer.Option(envvar="TOOLSMITH_CACHE", help="Prepared base models and tools.")
]


@app.command("inspect")
def inspect(
    data: Data,
    row: Annotated[int, typer.Option(min=1, help="Row number, as the reject file gives it.")] = 1,
    format: FormatName = None,
    template: Template = None,
    base: Base = None,
    profile: Profile = "smollm2-135m",
    revision: Revision = None,
    subset: Subset = None,
    split: Split = None,
    tokens: Tokens = True,
    cache: Cache = Path(".cache"),
    json_output: AsJson = False,
) -> None:
    """Show one row through every stage, or why it is refused.

    Example: data inspect rows.jsonl --row 17
    """
    with _clear_errors():
        config = _config(
            profile,
            data=data,
            data_format=format,
            data_revision=revision,
            data_subset=subset,
            data_split=split,
            template=template,
            base=base,
        )
        source = configured_source(config)
        found = inspect_row(source, row)
        tokenizer = _tokenizer(config, cache) if tokens and found.row else None
        if tokenizer and found.row:
            rendered = render(tokenizer, found.row, config.sequence_length)
            found = replace(found, rendered=rendered)
    if json_output:
        _print_json(found.as_dict())
        return
    _show(found, source, tokenizer)


@app.command("report")
def report(
    data: Data,
    html: Annotated[Path | None, typer.Option(help="Write the report as a page, too.")] = None,
    format: FormatName = None,
    template: Template = None,
    base: Base = None,
    profile: Profile = "smollm2-135m",
    revision: Revision = None,
    subset: Subset = None,
    split: Split = None,
    tokens: Tokens = True,
    rejects: Annotated[Path | None, typer.Option(help="Write refused rows to this file.")] = None,
    cache: Cache = Path(".cache"),
    json_output: AsJson = False,
) -> None:
    """Count what a data set holds: kinds, rejects, duplicates, functions, lengths.

    Nothing is refused for too many rejects here: the report is there to see them.

    Example: data report rows.jsonl --html report.html
    """
    with _clear_errors():
        config = _config(
            profile,
            data=data,
            data_format=format,
            data_revision=revision,
            data_subset=subset,
            data_split=split,
            template=template,
            base=base,
        )
        from train.data.page import page
        from train.data.survey import survey

        made = survey(config, _tokenizer(config, cache) if tokens else None, rejects)
        if html:
            _write(html, page(made))
    if json_output:
        _print_json(made.model_dump())
        return
    _show_report(made)
    if html:
        out.print(f"Page: {html}", markup=False, soft_wrap=True)


def _config(profile: str, **overrides: str | None) -> TrainConfig:
    return load_config(profile, overrides=dict(overrides))


def _tokenizer(config: TrainConfig, cache: Path) -> PreTrainedTokenizerBase:
    """The base's tokenizer with the configured template. Raises TrainError."""
    try:
        from train.base import load_tokenizer, resolve_base
        from train.export import set_template
        from train.template import KNOWN
    except ImportError as error:
        raise TrainError(
            f"{error.name} is not installed here: run `make setup`, or add --no-tokens"
        ) from error
    tokenizer = load_tokenizer(resolve_base(config.base, config.base_revision, cache))
    set_template(tokenizer, KNOWN[config.template])
    return tokenizer


def _show(found: Inspection, source: Source, tokenizer: PreTrainedTokenizerBase | None) -> None:
    facts = found.as_dict()
    out.print(f"[bold]{escape(str(source.data))}[/bold], row {found.number}, {found.format}")
    out.print(Panel(Text(_pretty(found.raw)), title="raw", title_align="left"))
    if found.reject:
        out.print(Text(f"refused: {facts['reason']}: {facts['detail']}", style="red"))
        out.print(Text(facts["means"]))
        return
    assert found.row is not None, "a row that is not refused was read"
    for doubt in facts["doubts"]:
        out.print(Text(f"doubt: {doubt['kind']}: {doubt['detail']}", style="yellow"))
        out.print(Text(doubt["means"] + " Left out, unless keep_doubtful is set."))
    special = f" ({', '.join(facts['traits'])})" if facts["traits"] else ""
    messages = json.dumps(facts["conversation"], ensure_ascii=False, indent=2)
    out.print(
        Panel(Text(messages), title=f"messages: {facts['kind']}{special}", title_align="left")
    )
    if not found.rendered or not tokenizer:
        return
    if found.rendered.dropped:
        out.print(Text(f"left out of training: {found.rendered.dropped}", style="yellow"))
    shown = Text()
    for text, trained in runs(tokenizer, found.rendered):
        # Brackets where there are no colours: a pipe, NO_COLOR.
        bare = not out.is_terminal or out.no_color
        shown.append(f"⟦{text}⟧" if trained and bare else text, "bold green" if trained else "dim")
    total, learned = len(found.rendered.tokens), found.rendered.trained
    title = f"tokens: {total}, {learned} trained ({learned / total:.0%})"
    out.print(Panel(shown, title=title, title_align="left"))


def _pretty(raw: str) -> str:
    """A row's text as people read it: the texts in it with their line breaks."""
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError):
        return raw
    if not isinstance(row, dict):
        return raw
    return "\n".join(
        f"{key}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for key, value in row.items()
    )


def _show_report(made: DataReport) -> None:
    from train.data.page import sections

    for section in sections(made):
        out.print(f"[bold]{escape(section.title)}[/bold]")
        for line in section.lines:
            share = f"  {line.share:.1%}" if line.share is not None else ""
            out.print(f"  {line.name:<24} {line.value:>12}{share}", markup=False, highlight=False)


def _write(path: Path, content: str) -> None:
    try:
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise TrainError(f"{path}: cannot be written: {error.strerror or error}") from error


def _print_json(value: Any) -> None:
    # Half a surrogate pair, which a raw row may hold, has no UTF-8: plain ASCII holds everything.
    sys.stdout.write(json.dumps(value) + "\n")


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Turn known errors into one line and an exit code."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        yield
    except TrainError as error:
        console.print(f"[red]error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(2 if isinstance(error, ConfigError) else 1) from None
    except KeyboardInterrupt:
        console.print("[yellow]stopped by Ctrl-C[/yellow]")
        raise typer.Exit(130) from None


def main() -> None:
    """Entry point of `data`."""
    app()
