"""`python -m gateway`: serve the OpenAI API before the engines of a release.

It runs in the gateway's own environment, which has LiteLLM and click but not typer.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import click
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from gateway.config import (
    DEFAULT_MODEL_NAME,
    GatewayConfig,
    Timeouts,
    litellm_yaml,
    parse_engines,
)
from gateway.errors import GatewayError
from gateway.server import bind, read_key, require_key_beyond_loopback, serve
from release.channels import DEFAULT_CHANNEL
from release.errors import ReleaseError
from release.store import ReleaseStore

_EPILOG = (
    "Example: python -m gateway --engine gpu=http://127.0.0.1:8000 "
    "--engine cpu=http://127.0.0.1:8080 --key-file key.txt"
)
_LIMITS = Timeouts()


@click.command(
    context_settings={"show_default": True, "help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
)
@click.option("--host", default="127.0.0.1", help="Address to bind to; others need --key-file.")
@click.option("--port", default=4000, type=click.IntRange(1, 65535), help="Port to bind to.")
@click.option(
    "--engine",
    "engines",
    multiple=True,
    metavar="NAME=URL",
    help="gpu=URL (vLLM, asked first) or cpu=URL (llama.cpp); once or twice.",
)
@click.option(
    "--store",
    default="models",
    type=click.Path(path_type=Path),
    help="Release store that holds the channel.",
)
@click.option("--channel", default=DEFAULT_CHANNEL, help="Channel whose release is served.")
@click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    help="File whose first line is the clients' API key.  [default: no key, loopback only]",
)
@click.option(
    "--model-name",
    default=DEFAULT_MODEL_NAME,
    envvar="TOOLSMITH_MODEL_NAME",
    show_envvar=True,
    help="Public model name; the engines must serve it too.",
)
@click.option(
    "--request-timeout",
    default=_LIMITS.request_s,
    type=click.FloatRange(1),
    help="Seconds that a whole plain answer may take.",
)
@click.option(
    "--first-byte-timeout",
    default=_LIMITS.first_byte_s,
    type=click.FloatRange(0.1),
    help="Seconds without a chunk after which a stream leaves the first of two engines.",
)
@click.option(
    "--drain-timeout",
    default=30.0,
    type=click.FloatRange(0),
    help="Seconds that requests in flight get after SIGTERM.",
)
@click.option("--print-config", is_flag=True, help="Print LiteLLM's configuration and exit.")
@click.option("--json", "as_json", is_flag=True, help="Log and report errors as JSON lines.")
def main(
    host: str,
    port: int,
    engines: tuple[str, ...],
    store: Path,
    channel: str,
    key_file: Path | None,
    model_name: str,
    request_timeout: float,
    first_byte_timeout: float,
    drain_timeout: float,
    print_config: bool,
    as_json: bool,
) -> None:
    """Serve one OpenAI-compatible endpoint before vLLM and llama.cpp.

    Clients name the model TOOLSMITH_MODEL_NAME, <name>@gpu, <name>@cpu or the release id.
    GET /health/readiness answers 200 while an engine can answer.
    Exit codes: 0 stopped, 1 could not start, 2 wrong use.
    """
    _log_to_stderr(as_json)
    try:
        config = GatewayConfig(
            model_name=model_name,
            engines=parse_engines(list(engines)),
            release_id=ReleaseStore(store).channel(channel).release,
            timeouts=Timeouts(request_s=request_timeout, first_byte_s=first_byte_timeout),
        )
        if print_config:
            click.echo(litellm_yaml(config), nl=False)
            return
        key = read_key(key_file) if key_file is not None else None
        require_key_beyond_loopback(host, key)
        with bind(host, port) as listener:
            serve(config, listener, key=key, drain_s=drain_timeout)
    except ValidationError as error:
        first = error.errors()[0]
        _fail(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", 2, as_json)
    except GatewayError as error:
        _fail(str(error), error.exit_code, as_json)
    except ReleaseError as error:
        _fail(str(error), 1, as_json)


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        return json.dumps(line, ensure_ascii=False)


def _log_to_stderr(as_json: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(_JsonLines() if as_json else text)
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("gateway").setLevel(logging.INFO)


def _fail(message: str, code: int, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"error": message}), err=True)
    else:
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        console.print(f"[red]gateway:[/red] {escape(message)}")
    sys.exit(code)


if __name__ == "__main__":
    main(prog_name="python -m gateway")
