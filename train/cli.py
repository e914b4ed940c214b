"""`finetune` and `infer`: train a release, and try a model in process."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.table import Table

from release.errors import ReleaseError
from release.store import ReleaseStore
from train.errors import ConfigError, TrainError
from train.hardware import choose_profile, wait_policy

# Everything but results goes to stderr, so that --json can be piped.
console = Console(stderr=True)
out = Console()

_ROOT = Path(__file__).resolve().parent.parent

Store = Annotated[
    Path, typer.Option("--output", "-o", envvar="TOOLSMITH_STORE", help="The release store.")
]
Cache = Annotated[
    Path, typer.Option(envvar="TOOLSMITH_CACHE", help="Prepared base models and tools.")
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")]


def _finetune(
    profile: Annotated[
        str, typer.Option(help="Name of a profile; `auto` chooses by the hardware and says why.")
    ] = "smollm2-135m",
    config: Annotated[Path | None, typer.Option(help="YAML file of settings.")] = None,
    data: Annotated[str | None, typer.Option(help="A file of rows, a hub id, `embedded`.")] = None,
    base: Annotated[str | None, typer.Option(help="Base model: hub id or local folder.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the release.")] = None,
    max_samples: Annotated[int | None, typer.Option(help="Train on at most so many rows.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Train at most so many steps.")] = None,
    merge: Annotated[
        bool | None,
        typer.Option("--merge/--no-merge", help="Seal a release, or keep the adapter only."),
    ] = None,
    gguf: Annotated[str | None, typer.Option(help="GGUF files to write: Q8_0,Q4_K_M")] = None,
    output: Store = Path("models"),
    cache: Cache = Path(".cache"),
    reuse: Annotated[
        bool, typer.Option(help="Keep a release that was made from the same inputs.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    verbose: Verbose = False,
) -> None:
    """Fine-tune a model to call tools and seal the result as a release.

    Example: finetune --profile smollm2-135m --data rows.jsonl --max-steps 50 --gguf Q8_0
    """
    _set_up(verbose)
    with _clear_errors("nothing was sealed"):
        from train.config import load_config

        if profile == "auto":
            profile, reason = choose_profile()
            console.print(f"profile {profile}: {reason}", markup=False, highlight=False)
        settings = load_config(
            profile,
            file=config,
            overrides={
                "data": data,
                "base": base,
                "name": name,
                "max_samples": max_samples,
                "max_steps": max_steps,
                "merge": merge,
                "gguf": gguf.split(",") if gguf else None,
            },
        )
        _need_training_libraries()
        from train.pipeline import Places, run
        from train.progress import Reporter

        places = Places(output, cache, llama_cpp_folder())
        outcome = run(settings, places, Reporter(console), reuse=reuse)
    if json_output:
        sys.stdout.write(json.dumps(_as_json(outcome, output)) + "\n")
        return
    if outcome.release is None:
        _say(f"Adapter: {outcome.adapter}")
        _say(f'Try it: infer --model {outcome.adapter} "What can you do?"')
        return
    table = Table("held-out set", "calls", "base", "tuned")
    for score in outcome.release.scores:
        table.add_row(score.set, str(score.cases), f"{score.base:.2f}", f"{score.tuned:.2f}")
    out.print(table)
    _say(f"{'Kept' if outcome.reused else 'Sealed'} release {outcome.release.id} in {output}")
    _say(f"Serve it: release promote {outcome.release.id} && make up")


def _infer(
    prompt: Annotated[
        str | None, typer.Argument(help="What to ask; without it, a session starts.")
    ] = None,
    model: Annotated[
        str, typer.Option(help="Release, channel, or folder of an adapter or merged model.")
    ] = "stable",
    part: Annotated[str, typer.Option(help="Which part of a release: adapter or merged.")] = (
        "adapter"
    ),
    tools: Annotated[
        Path | None, typer.Option(help="JSON file: a list of functions in OpenAI's format.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 256,
    store: Annotated[
        Path, typer.Option(envvar="TOOLSMITH_STORE", help="The release store.")
    ] = Path("models"),
    cache: Cache = Path(".cache"),
    json_output: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
    verbose: Verbose = False,
) -> None:
    """Ask an adapter or a merged model in this process, greedily.

    Example: infer "What's the weather in Oslo?" --tools tools.json --model stable
    """
    _set_up(verbose)
    if part not in ("adapter", "merged"):
        raise typer.BadParameter(f"{part!r} is neither adapter nor merged", param_hint="--part")
    with _clear_errors("interrupted"):
        _need_training_libraries()
        from train.session import Session, read_tools

        offered = read_tools(tools) if tools else ()
        session = Session(_model_folder(model, part, store), cache, offered, max_tokens)
        if prompt is None:
            session.converse(out)
            return
        show: Callable[[str], None] = (
            (lambda text: None)
            if json_output
            else lambda text: out.print(text, end="", markup=False, highlight=False, soft_wrap=True)
        )
        answer = session.ask(prompt, show)
        if json_output:
            sys.stdout.write(json.dumps(answer.openai(), ensure_ascii=False) + "\n")
        else:
            out.print()


def llama_cpp_folder() -> Path:
    """Where `make setup` puts llama.cpp's converter and `make quantizer` its binaries."""
    return Path(os.environ.get("TOOLSMITH_LLAMA_CPP", _ROOT / ".cache" / "llama.cpp"))


def _model_folder(model: str, part: str, store: Path) -> Path:
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    releases = ReleaseStore(store)
    return releases.path(releases.resolve(model)) / part


def _as_json(outcome: Any, output: Path) -> dict[str, Any]:
    release = outcome.release
    return {
        "release": release.id if release else None,
        "adapter": str(outcome.adapter) if outcome.adapter else None,
        "store": str(output),
        "reused": outcome.reused,
        "scores": [score.model_dump() for score in release.scores] if release else [],
        "seconds": {stage: round(taken, 1) for stage, taken in outcome.seconds.items()},
        "tokens_per_second": outcome.tokens_per_second and round(outcome.tokens_per_second, 1),
    }


def _need_training_libraries() -> None:
    try:
        import torch  # noqa: F401
        import trl  # noqa: F401
    except ImportError as error:
        raise TrainError(
            f"{error.name} is not installed here: run `make setup`, which takes the build that "
            "fits this machine (CPU or CUDA)"
        ) from error


@contextmanager
def _clear_errors(interrupted: str) -> Iterator[None]:
    """Turn known errors into one line and an exit code; Ctrl-C says what became of the work."""
    try:
        yield
    except ConfigError as error:
        _say_error(error)
        raise typer.Exit(2) from None
    except (TrainError, ReleaseError) as error:
        _say_error(error)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        console.print(f"[yellow]stopped by Ctrl-C:[/yellow] {interrupted}")
        raise typer.Exit(130) from None


def _say(text: str) -> None:
    """A line to read or to copy: never broken, nothing in it taken for markup."""
    out.print(text, markup=False, soft_wrap=True)


def _say_error(error: Exception) -> None:
    # A message may hold brackets (a pattern, a path), which are no markup.
    console.print(f"[red]error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)


def _set_up(verbose: bool) -> None:
    # It must be set before torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", wait_policy())
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(message)s",
        handlers=[RichHandler(console=console, show_path=False, show_time=False)],
        force=True,
    )
    if not verbose:
        for name in ("transformers", "datasets", "peft", "trl", "accelerate", "httpx", "torch"):
            logging.getLogger(name).setLevel(logging.ERROR)
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def finetune() -> None:
    """Entry point of `finetune`."""
    typer.run(_finetune)


def infer() -> None:
    """Entry point of `infer`."""
    typer.run(_infer)
