"""Starts LiteLLM's proxy in this process, behind the edge."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import os
import secrets
import signal
import socket
import tempfile
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path

from gateway.config import INTERNAL_KEY_VARIABLE, GatewayConfig, litellm_yaml
from gateway.errors import GatewayError, UsageError
from gateway.health import Prober

logger = logging.getLogger(__name__)

# Read by litellm when it is imported, and once more when its app starts.
_SETTINGS = {
    # No download: prices, header lists and the rest come from the installed package.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_AUTOROUTER_PRESETS": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    "LITELLM_LOCAL_POLICY_TEMPLATES": "True",
    # Understood by later versions only; it closes every outside connection there.
    "LITELLM_OFFLINE_MODE": "True",
    # Not DEV: no .env file of the working directory is read.
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_DONT_SHOW_FEEDBACK_BOX": "true",
    # Its error log quotes requests; gateway.routing logs failures without them.
    "LITELLM_LOG": "CRITICAL",
    "DISABLE_ADMIN_UI": "True",
    "NO_DOCS": "True",
    "NO_REDOC": "True",
}
# Would make LiteLLM connect to something, or change what it serves.
_UNSET_PREFIXES = ("LITELLM_", "DATABASE_", "REDIS_", "HOSTED_VLLM_", "PROMETHEUS_")
_UNSET = ("WORKER_CONFIG", "CONFIG_FILE_PATH", "DIRECT_URL")


def require_key_beyond_loopback(host: str, key: str | None) -> None:
    """Refuse an open gateway on anything but loopback.

    Raises:
        UsageError: no key and a host that other machines can reach.
    """
    if key is None and not _is_loopback(host):
        raise UsageError(
            f"--host {host} can be reached from other machines: give --key-file, "
            "or bind to 127.0.0.1"
        )


def read_key(path: Path) -> str:
    """The client key: the first line of `path`.

    Raises:
        GatewayError: no such file, or no key in it.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise GatewayError(f"the key file {path} cannot be read: {error}") from error
    key = lines[0].strip() if lines else ""
    if not key:
        raise GatewayError(f"the key file {path} is empty: write the key into its first line")
    if not key.isascii() or any(character.isspace() for character in key):
        raise GatewayError(f"the key in {path} holds a space or a non-ASCII character")
    return key


def bind(host: str, port: int) -> socket.socket:
    """Take the port now, before the slow start; clients are refused until the app listens.

    Raises:
        GatewayError: the port is taken, or the address is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((host, port))
    except OSError as error:
        taken.close()
        if error.errno == errno.EADDRINUSE:
            raise GatewayError(
                f"port {port} on {host} is taken: stop what uses it, or give another --port"
            ) from error
        raise GatewayError(f"cannot bind to {host}:{port}: {error.strerror or error}") from error
    return taken


def prepare_environment(environment: MutableMapping[str, str], config_file: Path) -> str:
    """Set what LiteLLM reads from the environment; return the key that only this process knows."""
    for name in [*environment]:
        if name.startswith(_UNSET_PREFIXES) or name in _UNSET:
            del environment[name]
    internal_key = f"sk-{secrets.token_urlsafe(32)}"
    environment.update(_SETTINGS)
    environment[INTERNAL_KEY_VARIABLE] = internal_key
    environment["CONFIG_FILE_PATH"] = str(config_file)
    return internal_key


def serve(
    config: GatewayConfig, listener: socket.socket, *, key: str | None, drain_s: float
) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight then get `drain_s` seconds to end."""
    with _config_file(config) as path:
        internal_key = prepare_environment(os.environ, path)
        # uvicorn raises the signal again when it has stopped; that must not undo a clean exit.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        asyncio.run(_serve(config, listener, key, internal_key, drain_s))


async def _serve(
    config: GatewayConfig,
    listener: socket.socket,
    key: str | None,
    internal_key: str,
    drain_s: float,
) -> None:
    # Here and not above: the environment must be set first, and the import takes seconds.
    import litellm  # type: ignore[import-not-found, unused-ignore]
    import uvicorn  # type: ignore[import-not-found, unused-ignore]
    from litellm.proxy.proxy_server import (  # type: ignore[import-not-found, unused-ignore]
        app as litellm_app,
    )

    from gateway.edge import Edge
    from gateway.routing import EngineRouting

    for name in ("LiteLLM", "LiteLLM Proxy", "LiteLLM Router"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    async with Prober(config) as prober:
        litellm.logging_callback_manager.add_litellm_callback(EngineRouting(config, prober))
        edge = Edge(
            litellm_app,
            prober,
            release_id=config.release_id,
            client_key=key,
            internal_key=internal_key,
        )
        server = uvicorn.Server(
            uvicorn.Config(
                edge,
                log_level="warning",
                access_log=False,
                lifespan="on",
                server_header=False,
                timeout_graceful_shutdown=max(1, round(drain_s)),
            )
        )
        await server.serve(sockets=[listener])
    if not server.started:
        raise GatewayError("LiteLLM's proxy did not start: its own error stands above")


@contextmanager
def _config_file(config: GatewayConfig) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="toolsmith-gateway-") as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(litellm_yaml(config), encoding="utf-8")
        yield path


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
