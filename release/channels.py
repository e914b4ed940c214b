"""Channels: a name that points to one release, and remembers the one before it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from release.errors import NotFoundError, ReleaseError
from release.files import make_public_directory, replace_public
from release.manifest import ID_PATTERN
from release.staging import locked

DEFAULT_CHANNEL = "stable"
_SUFFIX = ".json"
_CHANNEL = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


class Channel(BaseModel):
    """`channels/<name>.json`: the release that a channel serves, and since when.

    `previous` is what `release rollback` goes back to; None on a channel's first release.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str
    release: str = Field(pattern=ID_PATTERN)
    previous: str | None = Field(default=None, pattern=ID_PATTERN)
    changed: AwareDatetime


def channel_path(channels: Path, name: str) -> Path:
    """The file of a channel.

    Raises:
        ReleaseError: the name is not one of a channel.
    """
    if not _CHANNEL.fullmatch(name):
        raise ReleaseError(
            f"{name!r} is no channel name: use 1 to 32 of a-z, 0-9 and '-', not starting with '-'"
        )
    return channels / f"{name}{_SUFFIX}"


def read_channel(channels: Path, name: str) -> Channel:
    """Read a channel.

    Raises:
        NotFoundError: there is no such channel.
        ReleaseError: its file is damaged or cannot be read.
    """
    path = channel_path(channels, name)
    try:
        return Channel.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise NotFoundError(
            f"no channel {name!r} in {channels.parent}: "
            f"`release promote ID --channel {name}` sets it"
        ) from None
    except OSError as error:
        raise ReleaseError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise ReleaseError(
            f"{path} is not a channel file ({error.errors()[0]['msg']}): "
            f"`release promote ID --channel {name}` writes it anew"
        ) from error


def write_channel(channels: Path, name: str, release_id: str) -> Channel:
    """Point a channel to a release in one step; pointing it to where it points changes nothing.

    Raises:
        ReleaseError: the channel cannot be written.
    """
    path = channel_path(channels, name)
    try:
        make_public_directory(channels)
        # Two writers at once would lose one's `previous`, and with it the way back.
        with locked(channels / ".lock"):
            current = _current(channels, name)
            if current and current.release == release_id:
                return current
            channel = Channel(
                name=name,
                release=release_id,
                previous=current.release if current else None,
                changed=datetime.now(UTC).replace(microsecond=0),
            )
            replace_public(path, channel.model_dump_json(indent=2) + "\n")
            return channel
    except OSError as error:
        raise ReleaseError(
            f"cannot write {path}: {error.strerror}. It still says what it did"
        ) from (error)


def list_channels(channels: Path) -> tuple[list[Channel], list[str]]:
    """All channels by name, and what is wrong with the files that are none."""
    found: list[Channel] = []
    problems: list[str] = []
    for path in sorted(channels.glob(f"*{_SUFFIX}")) if channels.is_dir() else []:
        if path.name.startswith("."):
            continue
        try:
            found.append(read_channel(channels, path.name.removesuffix(_SUFFIX)))
        except ReleaseError as error:
            problems.append(str(error))
    return found, problems


def _current(channels: Path, name: str) -> Channel | None:
    try:
        return read_channel(channels, name)
    except ReleaseError:
        return None
