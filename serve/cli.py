"""`serve`: run one engine, or the native stack."""

from __future__ import annotations

import json
import logging
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape

from serve import native, options, show
from serve.engine import Engine
from serve.errors import ServeError
from serve.gateway import Gateway
from serve.llamacpp.engine import LlamaCpp
from serve.parts import PARTS, log_file
from serve.process import check_port
from serve.settings import PREFIX, Settings, load_settings
from serve.source import select
from serve.supervise import Supervisor
from serve.vllm.engine import Vllm

main = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Serve a release: one engine, or the native stack of llama.cpp, vLLM and the gateway. "
    "Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted.",
)
_errors = Console(stderr=True, highlight=False, soft_wrap=True)

Release = Annotated[
    str | None,
    typer.Option(
        help="Release id, its unique start, or a channel.", show_default="the channel's release"
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the exact command and stop.")]
StateFile = Annotated[Path | None, typer.Option(hidden=True)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@main.command(epilog="Example: serve llamacpp --quant Q8_0 --llamacpp-port 8081")
def llamacpp(
    release: Release = None,
    store: options.Store = None,
    cache: options.Cache = None,
    channel: options.Channel = None,
    model_name: options.ModelName = None,
    host: options.Host = None,
    llamacpp_port: options.LlamacppPort = None,
    quant: options.Quant = None,
    context_length: options.ContextLength = None,
    slots: options.Slots = None,
    threads: options.Threads = None,
    prompt_cache_mib: options.PromptCacheMib = None,
    llama_server: options.LlamaServer = None,
    start_seconds: options.StartSeconds = None,
    drain_seconds: options.DrainSeconds = None,
    dry_run: DryRun = False,
    state_file: StateFile = None,
) -> None:
    """Serve a release's GGUF with llama.cpp, until SIGTERM; running requests are finished then."""
    with _reporting():
        settings = load_settings(_given(locals()))
        engine = LlamaCpp(select(settings, release), settings)
        _run(engine, settings, settings.llamacpp_port, dry_run, state_file)


@main.command(epilog="Example: serve vllm --vllm-python .venvs/vllm/bin/python --vllm-device cpu")
def vllm(
    release: Release = None,
    store: options.Store = None,
    cache: options.Cache = None,
    channel: options.Channel = None,
    model_name: options.ModelName = None,
    host: options.Host = None,
    vllm_port: options.VllmPort = None,
    vllm_python: options.VllmPython = None,
    vllm_device: options.VllmDevice = None,
    vllm_kv_cache_gib: options.VllmKvCacheGib = None,
    vllm_max_seqs: options.VllmMaxSeqs = None,
    context_length: options.ContextLength = None,
    threads: options.Threads = None,
    start_seconds: options.StartSeconds = None,
    drain_seconds: options.DrainSeconds = None,
    dry_run: DryRun = False,
    state_file: StateFile = None,
) -> None:
    """Serve a release's merged weights with vLLM, until SIGTERM; running requests are finished."""
    with _reporting():
        settings = load_settings(_given(locals()))
        engine = Vllm(select(settings, release), settings)
        _run(engine, settings, settings.vllm_port, dry_run, state_file)


@main.command(epilog="Example: serve gateway --engine cpu=http://127.0.0.1:8080")
def gateway(
    engine: Annotated[
        list[str], typer.Option(help="gpu=URL (asked first) or cpu=URL; once or twice.")
    ],
    release: Release = None,
    store: options.Store = None,
    cache: options.Cache = None,
    channel: options.Channel = None,
    model_name: options.ModelName = None,
    host: options.Host = None,
    gateway_port: options.GatewayPort = None,
    gateway_python: options.GatewayPython = None,
    start_seconds: options.StartSeconds = None,
    drain_seconds: options.DrainSeconds = None,
    dry_run: DryRun = False,
    state_file: StateFile = None,
) -> None:
    """Run the gateway before running engines, until SIGTERM; its key is <cache>/run/api_key."""
    with _reporting():
        settings = load_settings(_given(locals()))
        engines = dict(part.split("=", 1) for part in engine if "=" in part)
        if len(engines) != len(engine):
            raise typer.BadParameter("each --engine is NAME=URL, each name once")
        started = Gateway(select(settings, release), settings, engines)
        _run(started, settings, settings.gateway_port, dry_run, state_file)


@main.command(epilog="Example: serve up --no-vllm --gateway-port 4001")
def up(
    with_vllm: Annotated[
        bool, typer.Option("--vllm/--no-vllm", help="Start vLLM as well as llama.cpp.")
    ] = True,
    store: options.Store = None,
    cache: options.Cache = None,
    channel: options.Channel = None,
    model_name: options.ModelName = None,
    llamacpp_port: options.LlamacppPort = None,
    vllm_port: options.VllmPort = None,
    gateway_port: options.GatewayPort = None,
    quant: options.Quant = None,
    context_length: options.ContextLength = None,
    threads: options.Threads = None,
) -> None:
    """Bring the native stack up and leave it running; what runs as wanted already is left alone.

    Each other setting of the engines is an environment variable, TOOLSMITH_…: see the help of the
    commands `llamacpp`, `vllm` and `gateway`.
    """
    with _reporting(), _interruptible():
        settings = load_settings(_given(locals()))
        stack = native.up(settings, with_vllm, show.say)
        if not stack.started:
            show.console.print("already up, nothing to do")
        show.print_access(settings, stack)


@main.command(epilog="Example: serve down")
def down(
    cache: options.Cache = None,
    drain_seconds: options.DrainSeconds = None,
) -> None:
    """Finish running requests and stop the native stack; stopping a stopped one is no error."""
    with _reporting():
        stopped = native.down(load_settings(_given(locals())), show.say)
        show.console.print(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")


@main.command(epilog="Example: serve status --json")
def status(cache: options.Cache = None, as_json: AsJson = False) -> None:
    """Show each part of the native stack. Exit code 0: all that was started is ready; 1: not."""
    with _reporting():
        parts = native.status(load_settings(_given(locals())))
        if as_json:
            sys.stdout.write(
                json.dumps([show.row(*item) for item in parts.items()], indent=2) + "\n"
            )
        else:
            show.print_status(parts)
        phases = {show.phase(state) for state in parts.values() if state is not None}
        if phases != {"ready"}:
            raise typer.Exit(1)


@main.command(epilog="Example: serve logs llamacpp -f")
def logs(
    part: Annotated[str | None, typer.Argument(help=f"One of {', '.join(PARTS)}.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it grows.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Lines to begin with.")] = 50,
    cache: options.Cache = None,
) -> None:
    """Show the last lines of a part's log, or of all."""
    with _reporting():
        settings = load_settings(_given(locals()))
        if part is not None and part not in PARTS:
            raise typer.BadParameter(f"no part {part!r}: one of {', '.join(PARTS)}")
        paths = [log_file(settings, name) for name in ([part] if part else PARTS)]
        present = [path for path in paths if path.exists()]
        if not present:
            raise ServeError(f"no log in {paths[0].parent}: nothing was started yet")
        show.show_logs(present, lines, follow)


def _given(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name in Settings.model_fields}


def _run(
    engine: Engine, settings: Settings, port: int, dry_run: bool, state_file: Path | None
) -> None:
    if dry_run:
        program = engine.program
        secrets = {"LLAMA_API_KEY", "VLLM_API_KEY", f"{PREFIX}ENGINE_KEY"}
        env = [
            f"{name}={shlex.quote('***' if name in secrets else value)}"
            for name, value in program.env.items()
            if value is not None
        ]
        sys.stdout.write(" ".join([*env, shlex.join(program.argv)]) + "\n")
        return
    handler: logging.Handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    if _errors.is_terminal:
        handler = RichHandler(console=_errors, show_path=False)
    logging.basicConfig(level=logging.INFO, handlers=[handler], format="%(message)s")
    # One line for each probe would bury the rest.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    check_port(settings.host, port, f"{PREFIX}{engine.part.upper()}_PORT")
    Supervisor(engine, settings.start_seconds, settings.drain_seconds, state_file).run()


@contextmanager
def _reporting() -> Iterator[None]:
    """Turn the errors of this package into a message and exit code 1, Ctrl-C into 130."""
    try:
        yield
    except ServeError as error:
        _errors.print(f"[red]error:[/red] {escape(str(error))}")
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        _errors.print("interrupted")
        raise typer.Exit(130) from None


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGHUP (a closed terminal) clean up as Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, old in zip(numbers, before, strict=True):
            signal.signal(number, old)
