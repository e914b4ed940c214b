"""The gateway as a part of the native stack; the program itself is the package `gateway`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import httpx

from serve.engine import NotReadyError, Program, url_of
from serve.errors import ServeError
from serve.settings import Settings
from serve.source import Source


class Gateway:
    """The gateway before `engines` (name → URL); clients need the key in the settings' key file.

    Raises:
        ServeError: its interpreter is missing.
    """

    part = "gateway"

    def __init__(self, source: Source, settings: Settings, engines: Mapping[str, str]) -> None:
        arguments = [*("--host", settings.host, "--port", str(settings.gateway_port))]
        for name, url in engines.items():
            arguments += ["--engine", f"{name}={url}"]
        arguments += [
            *("--store", str(settings.store), "--channel", settings.channel),
            *("--model-name", settings.model_name, "--key-file", str(settings.key_file)),
            *("--drain-timeout", f"{settings.drain_seconds:g}"),
        ]
        self.program = Program(
            argv=(_interpreter(settings.gateway_python), "-m", "gateway", *arguments),
            env={
                "TOOLSMITH_ENGINE_KEY": settings.secret_engine_key(),
                # Its environment holds no copy of this project.
                "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
            },
            url=url_of(settings.host, settings.gateway_port),
            release=source.manifest.id,
            # It drains by itself; longer than that it may not hang.
            grace_seconds=settings.drain_seconds + 10,
        )

    def probe(self, client: httpx.Client) -> None:
        """Return once it answers: whether an engine can is not its own doing."""
        response = client.get("/health/readiness")
        if response.status_code not in (httpx.codes.OK, httpx.codes.SERVICE_UNAVAILABLE):
            raise NotReadyError(f"{response.request.url} answers {response.status_code}")

    def in_flight(self, client: httpx.Client) -> int:
        """Always none: it takes no new requests after SIGTERM and ends the running ones itself."""
        return 0


def _interpreter(python: Path) -> str:
    found = shutil.which(str(python))
    if found is None:
        raise ServeError(
            f"no gateway: there is no interpreter {python}. "
            "Install it, or set TOOLSMITH_GATEWAY_PYTHON"
        )
    return str(Path(found).absolute())
