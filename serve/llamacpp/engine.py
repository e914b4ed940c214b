"""llama.cpp as an engine: which program runs it, and what proves that it serves the release."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec

import httpx

from serve.engine import Program, gauge, url_of
from serve.errors import ServeError
from serve.llamacpp.settings import LlamaCppSettings, flags, llamacpp_settings
from serve.ready import generate_token, get_json
from serve.settings import Settings
from serve.source import Source


class LlamaCpp:
    """A llama.cpp server for one release.

    Raises:
        ServeError: no server is installed, or the release does not fit the settings.
    """

    part = "llamacpp"

    def __init__(self, source: Source, settings: Settings) -> None:
        self._served = source.manifest.served
        self._template = source.chat_template.read_text(encoding="utf-8")
        self.settings = llamacpp_settings(source, settings)
        key = settings.secret_engine_key()
        self.program = Program(
            argv=_command(self.settings, settings),
            env=_environment(self.settings, key),
            url=url_of(settings.host, settings.llamacpp_port),
            release=source.manifest.id,
            key=key,
        )

    def probe(self, client: httpx.Client) -> None:
        """Check the running server against the manifest, then generate a token."""
        generate_token(client, self.settings.aliases[0])
        props = get_json(client, "/props")
        expected = {
            # The server hands the template back without the newline at its end.
            "chat_template": self._template.rstrip("\n"),
            "total_slots": self.settings.slots,
        }
        for name, value in expected.items():
            found = props.get(name)
            if (found.rstrip("\n") if isinstance(found, str) else found) != value:
                raise ServeError(f"llama.cpp does not serve the release: its {name} is {found!r}")
        if props.get("eos_token") not in self._served.stop_tokens:
            raise ServeError(
                f"llama.cpp stops at {props.get('eos_token')!r}, the release at "
                f"{', '.join(self._served.stop_tokens)}: export the GGUF anew"
            )
        defaults = props.get("default_generation_settings")
        context = defaults.get("n_ctx") if isinstance(defaults, dict) else None
        if context != self.settings.context:
            raise ServeError(
                f"llama.cpp spans {context} tokens a request instead of {self.settings.context}: "
                "choose a context length that is a multiple of 256"
            )

    def in_flight(self, client: httpx.Client) -> int:
        """Requests in a slot or waiting for one."""
        response = client.get("/metrics")
        response.raise_for_status()
        return gauge(response.text, "llamacpp:requests_processing", "llamacpp:requests_deferred")


def _command(engine: LlamaCppSettings, settings: Settings) -> tuple[str, ...]:
    """llama-server where one is given or on PATH, else xllamacpp in this environment."""
    if settings.llama_server is not None:
        server = shutil.which(str(settings.llama_server))
        if server is None:
            raise ServeError(
                f"TOOLSMITH_LLAMA_SERVER names {settings.llama_server}, which is no program"
            )
    else:
        server = shutil.which("llama-server")
    if server is not None:
        return (server, *flags(engine))
    if find_spec("xllamacpp") is None:
        raise ServeError(
            "no llama.cpp server: install the dependency group llamacpp, "
            "or set TOOLSMITH_LLAMA_SERVER to a llama-server"
        )
    return (sys.executable, "-m", "serve.llamacpp.native", engine.to_json())


def _environment(engine: LlamaCppSettings, key: str | None) -> dict[str, str | None]:
    # llama-server would take any LLAMA_ARG_* of ours as a setting; only flags may set things.
    environment: dict[str, str | None] = {
        name: None for name in os.environ if name.startswith("LLAMA_ARG_")
    }
    # Spinning threads starve whatever else runs on the machine.
    environment |= {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": str(engine.threads)}
    if key:
        environment["LLAMA_API_KEY"] = key
    return environment
