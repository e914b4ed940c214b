"""The gateway's API key: made once, kept in a file that only its owner can read."""

from __future__ import annotations

import os
import secrets

from serve.errors import ServeError
from serve.settings import Settings


def ensure_key(settings: Settings) -> bool:
    """Make sure that the key file holds the key; True when it changed.

    A key given in the settings replaces the one in the file, where clients of this machine look.

    Raises:
        ServeError: the file cannot be read or written.
    """
    path = settings.key_file
    try:
        current = path.read_text(encoding="ascii").strip() if path.exists() else ""
        given = settings.api_key.get_secret_value() if settings.api_key else ""
        key = given or current or f"sk-toolsmith-{secrets.token_urlsafe(32)}"
        if key == current:
            # It may have been copied here with looser permissions.
            path.chmod(0o600)
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".api_key.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(key + "\n")
        temporary.replace(path)
    except (OSError, ValueError) as error:
        raise ServeError(f"the API key in {path} cannot be read or written: {error}") from error
    return True


def read_key(settings: Settings) -> str | None:
    """The key given in the settings, else the one in the file, else None."""
    if settings.api_key:
        return settings.api_key.get_secret_value()
    try:
        return settings.key_file.read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None
