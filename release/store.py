"""The release store: every release under one folder, and the channels that name them.

    <root>/releases/<id>/         a release; see release.manifest
    <root>/channels/<name>.json   see release.channels

Reading never writes, so a read-only volume is enough to serve from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from release.channels import (
    DEFAULT_CHANNEL,
    Channel,
    channel_path,
    list_channels,
    read_channel,
    write_channel,
)
from release.check import Problem, check_release
from release.errors import NotFoundError, ReleaseError
from release.manifest import ID_PATTERN, Draft, Manifest, read_manifest
from release.seal import seal
from release.staging import PREFIX, staging


@dataclass(frozen=True)
class Listing:
    """What a store holds: releases, newest first; channels by name; and what is neither."""

    releases: list[Manifest]
    channels: list[Channel]
    problems: list[str]


class ReleaseStore:
    """Releases and channels below `root`, which need not exist before the first `stage`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._releases = root / "releases"
        self._channels = root / "channels"

    @contextmanager
    def stage(self, needs: int = 0) -> Iterator[Path]:
        """Yield an empty private folder to export into and then `seal`; it is gone afterwards.

        `needs` is the number of bytes that will be written, where it is known: a disk without
        them is refused before the work.

        Raises:
            ReleaseError: the folder cannot be made, or the disk is full, now or later.
        """
        with staging(self._releases, needs) as folder:
            yield folder

    def seal(self, staged: Path, draft: Draft) -> Manifest:
        """Publish a staged folder as a release; see `release.seal.seal`.

        Raises:
            ReleaseError: it is not complete, the disk is full, or the folder is not from `stage`.
        """
        if staged.parent != self._releases or not staged.name.startswith(PREFIX):
            raise ReleaseError(f"{staged} is no staging folder of {self.root}: use stage()")
        return seal(staged, draft)

    def list(self) -> Listing:
        """Everything in the store; what cannot be read becomes a problem, never an exception.

        Raises:
            ReleaseError: the store's own folder cannot be read.
        """
        releases: list[Manifest] = []
        channels, problems = list_channels(self._channels)
        for name in self._names():
            try:
                releases.append(self.get(name))
            except ReleaseError as error:
                problems.append(str(error))
        releases.sort(key=lambda manifest: (manifest.created, manifest.id), reverse=True)
        return Listing(releases, channels, problems)

    def get(self, release_id: str) -> Manifest:
        """The manifest of a release.

        Raises:
            NotFoundError: there is no such release.
            ReleaseError: its manifest is damaged, of a newer schema, or of another release.
        """
        manifest = read_manifest(self.path(release_id))
        if manifest.id != release_id:
            raise ReleaseError(
                f"{self._releases / release_id} holds the manifest of {manifest.id}: "
                "a release cannot be renamed; move the folder back"
            )
        return manifest

    def path(self, release_id: str) -> Path:
        """The folder of a release.

        Raises:
            NotFoundError: there is no such release.
            ReleaseError: the text is not a release id.
        """
        if not re.fullmatch(ID_PATTERN, release_id):
            raise ReleaseError(
                f"{release_id!r} is no release id: one is <name>-<yyyymmdd>-<8 hex digits>"
            )
        path = self._releases / release_id
        if not path.is_dir():
            raise NotFoundError(f"no release {release_id} in {self.root}: see `release list`")
        return path

    def verify_files(self, release_id: str) -> Sequence[Problem]:
        """Read every byte of a release and return what differs from its manifest.

        Raises:
            NotFoundError: there is no such release.
            ReleaseError: its manifest or a folder cannot be read.
        """
        path = self.path(release_id)
        try:
            return check_release(path)
        except OSError as error:
            raise ReleaseError(
                f"{error.filename or path} cannot be read: {error.strerror}"
            ) from error

    def resolve(self, ref: str) -> str:
        """The release id that an id, a channel's name or the unique start of an id stands for.

        Raises:
            NotFoundError: nothing fits.
            ReleaseError: several ids fit, or the channel's file is damaged.
        """
        ids = [name for name in self._names() if re.fullmatch(ID_PATTERN, name)]
        if ref in ids:
            return ref
        if ref in (path.stem for path in self._channels.glob("*.json")):
            return self.channel(ref).release
        matches = [name for name in ids if ref and name.startswith(ref)]
        if not matches:
            raise NotFoundError(f"no release or channel {ref!r} in {self.root}: see `release list`")
        if len(matches) > 1:
            raise ReleaseError(f"{ref!r} fits {len(matches)} releases: {', '.join(matches)}")
        return matches[0]

    def channel(self, name: str = DEFAULT_CHANNEL) -> Channel:
        """The release that a channel names.

        Raises:
            NotFoundError: the channel was never set.
            ReleaseError: its file is damaged, or the name is not one of a channel.
        """
        return read_channel(self._channels, name)

    def set_channel(self, name: str, release_id: str) -> Channel:
        """Point a channel to a release, whose manifest must be readable; `promote` checks more.

        Raises:
            ReleaseError: no such release, no channel name, or the file cannot be written.
        """
        channel_path(self._channels, name)
        self.get(release_id)
        return write_channel(self._channels, name, release_id)

    def promote(self, release_id: str, channel: str = DEFAULT_CHANNEL) -> Channel:
        """Point a channel to a release after reading every byte of it.

        Raises:
            ReleaseError: the release is damaged, or what `set_channel` raises.
        """
        channel_path(self._channels, channel)
        problems = self.verify_files(release_id)
        if problems:
            more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
            raise ReleaseError(
                f"release {release_id} is damaged and was not promoted: {problems[0]}{more}. "
                f"See `release verify {release_id}`"
            )
        return self.set_channel(channel, release_id)

    def rollback(self, channel: str = DEFAULT_CHANNEL) -> Channel:
        """Point a channel to its previous release; a second rollback goes forward again.

        Raises:
            NotFoundError: the channel was never set.
            ReleaseError: there is no previous release, or it is damaged or gone.
        """
        previous = self.channel(channel).previous
        if previous is None:
            raise ReleaseError(
                f"channel {channel!r} in {self.root} has had one release only: "
                "there is nothing to go back to"
            )
        return self.promote(previous, channel)

    def _names(self) -> Sequence[str]:
        """Names in releases/ that are not staging."""
        try:
            names = [path.name for path in self._releases.iterdir()]
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise ReleaseError(f"{self._releases} cannot be read: {error.strerror}") from error
        return sorted(name for name in names if not name.startswith(PREFIX))
