"""`release`: look at sealed releases, check them, and choose the one that is served."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from release.channels import DEFAULT_CHANNEL, Channel
from release.errors import ReleaseError
from release.files import human_size
from release.show import list_table, release_page
from release.store import ReleaseStore


class _Commands(TyperGroup):
    """Turns a ReleaseError into its message and exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ReleaseError as error:
            _say(f"error: {error}", style="red", stderr=True)
            raise typer.Exit(1) from error


main = typer.Typer(
    cls=_Commands,
    name="release",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="Look at sealed releases, check them, and choose the one that is served.",
    epilog="Example: [bold]release list[/], then [bold]release promote toolsmith-20261124[/]",
)

StoreOption = Annotated[
    Path,
    typer.Option("--store", envvar="TOOLSMITH_STORE", help="Folder that holds the releases."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
ChannelOption = Annotated[str, typer.Option("--channel", help="Channel to change.")]
RefArgument = Annotated[
    str, typer.Argument(metavar="REF", help="A release id, the start of one, or a channel.")
]
DEFAULT_STORE = Path("models")


@main.command("list", epilog="Example: [bold]release list --store models[/]")
def list_releases(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """List all releases, newest first, and the channels that name them."""
    listing = ReleaseStore(store).list()
    if as_json:
        _print_json(
            {
                "releases": [item.model_dump(mode="json") for item in listing.releases],
                "channels": [item.model_dump(mode="json") for item in listing.channels],
                "problems": listing.problems,
            }
        )
        return
    if listing.releases:
        _console().print(list_table(listing.releases, listing.channels))
    else:
        _say(f"No release in {store.absolute()} yet: `finetune` makes one.")
    for problem in listing.problems:
        _say(f"warning: {problem}", style="yellow", stderr=True)


@main.command(epilog="Example: [bold]release show stable[/]")
def show(
    ref: RefArgument = DEFAULT_CHANNEL,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Show one release: base, data, scores, template, parser, files."""
    releases = ReleaseStore(store)
    manifest = releases.get(releases.resolve(ref))
    if as_json:
        _print_json(manifest.model_dump(mode="json"))
        return
    folder = str(releases.path(manifest.id))
    _console().print(release_page(manifest, releases.list().channels, folder))


@main.command(epilog="Example: [bold]release verify toolsmith-20261124[/]")
def verify(
    ref: RefArgument = DEFAULT_CHANNEL,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Read every file of a release and compare it with the manifest (scope: files)."""
    releases = ReleaseStore(store)
    manifest = releases.get(releases.resolve(ref))
    with _console(stderr=True).status(f"Reading {manifest.id} …"):
        problems = releases.verify_files(manifest.id)
    if as_json:
        _print_json(
            {
                "id": manifest.id,
                "scope": "files",
                "ok": not problems,
                "problems": [
                    {"kind": item.kind, "path": item.path, "detail": item.detail}
                    for item in problems
                ],
            }
        )
    elif problems:
        for problem in problems:
            _say(str(problem), style="red")
        _say(f"{manifest.id}: files differ from the manifest ({len(problems)} problem(s))")
    else:
        size = human_size(sum(file.size for file in manifest.files))
        _say(f"{manifest.id}: files ok ({len(manifest.files)} files, {size})", style="green")
    if problems:
        raise typer.Exit(1)


@main.command(epilog="Example: [bold]release promote toolsmith-20261124 --channel stable[/]")
def promote(
    ref: RefArgument,
    channel: ChannelOption = DEFAULT_CHANNEL,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Point a channel to a release, after reading every file of it; a damaged one is refused."""
    releases = ReleaseStore(store)
    release_id = releases.resolve(ref)
    with _console(stderr=True).status(f"Reading {release_id} …"):
        promoted = releases.promote(release_id, channel)
    _report(promoted, as_json)


@main.command(epilog="Example: [bold]release rollback --channel stable[/]")
def rollback(
    channel: ChannelOption = DEFAULT_CHANNEL,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Point a channel back to its previous release; a second rollback goes forward again."""
    with _console(stderr=True).status("Reading the previous release …"):
        restored = ReleaseStore(store).rollback(channel)
    _report(restored, as_json)


def _report(channel: Channel, as_json: bool) -> None:
    if as_json:
        _print_json(channel.model_dump(mode="json"))
        return
    before = f" (before: {channel.previous})" if channel.previous else ""
    _say(f"{channel.name} → {channel.release}{before}", style="green")


def _console(stderr: bool = False) -> Console:
    """A console on the streams of this moment; away from a terminal lines are not wrapped."""
    console = Console(stderr=stderr)
    if not console.is_terminal:
        console.width = 200
    return console


def _say(line: str, style: str = "", stderr: bool = False) -> None:
    # Text, because a path may hold what rich would read as markup.
    _console(stderr).print(Text(line, style=style), soft_wrap=True)


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
