"""Staging: where a release is put together before anyone can see it.

A staging folder is `releases/.staging-<random>`, so that sealing is one rename on one file system.
Its owner holds a lock on `releases/.staging-<random>.lock`. The kernel drops the lock when the
owner dies, however it dies, so what a killed owner left is known by its free lock.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from release.errors import ReleaseError
from release.files import human_size, make_public_directory, walk

PREFIX = ".staging-"
_LOCK = ".lock"
# EFBIG is the user's own limit on file size (ulimit -f); the remedy is the same: more room.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_ROOM = 100_000
log = logging.getLogger(__name__)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, waiting for another holder; the file stays.

    Raises:
        OSError: the file cannot be opened, or the file system has no locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def staging(releases: Path, needs: int = 0) -> Iterator[Path]:
    """Yield a private, empty folder in `releases`; remove it on every exit that did not seal it.

    `needs` is the number of bytes that the caller expects to write.

    Raises:
        ReleaseError: the folder cannot be made, or the disk is full or too small.
    """
    try:
        make_public_directory(releases)
        _sweep(releases)
        free = shutil.disk_usage(releases).free
        if free < needs:
            raise ReleaseError(
                f"{releases} has {human_size(free)} free and the release needs about "
                f"{human_size(needs)}: free space there, or choose another store"
            )
        folder = releases / f"{PREFIX}{secrets.token_hex(8)}"
        lock = _own(folder)
    except OSError as error:
        raise ReleaseError(
            f"cannot prepare a release in {releases}: {error.strerror}. "
            "Make the folder writable, or choose another store"
        ) from error
    try:
        folder.mkdir(mode=0o700)
        yield folder
    except Exception as error:
        if is_disk_full(error) or _no_room_left(releases, error):
            raise disk_full(folder, needs, error) from error
        raise
    finally:
        _disown(folder, lock)


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, is a full disk.

    Writers in Rust (safetensors) raise their own type and name the cause in the text only.
    """
    while error is not None and not isinstance(error, ReleaseError):
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if any(f"os error {number})" in str(error) for number in _FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


def _no_room_left(releases: Path, error: Exception) -> bool:
    # torch.save and quantizers fail on a full disk without naming it.
    return not isinstance(error, ReleaseError) and shutil.disk_usage(releases).free < _NO_ROOM


def disk_full(folder: Path, needs: int, error: BaseException) -> ReleaseError:
    """The message for a full disk; call it while what was staged is still there."""
    try:
        written = walk(folder).size()
    except OSError:
        written = 0
    free = shutil.disk_usage(folder.parent).free
    reason = getattr(error, "strerror", None) or str(error)
    file = getattr(error, "filename", None)
    return ReleaseError(
        f"no space for the release in {folder.parent}{f' while writing {file}' if file else ''} "
        f"({reason}): {human_size(written)} were written and {human_size(free)} were left; "
        f"it needs {_estimate(needs, written)} in all. Nothing was sealed. "
        "Free space there, or choose another store"
    )


def _estimate(needs: int, written: int) -> str:
    return f"about {human_size(needs)}" if needs > written else f"more than {human_size(written)}"


def _own(folder: Path) -> int:
    """Lock a folder before it exists, so that it is never seen without an owner."""
    path = _lock_path(folder)
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:
            return lock
        # Another stage() took it for a left-over in the moment before it was locked.
        os.close(lock)


def _disown(folder: Path, lock: int) -> None:
    try:
        shutil.rmtree(folder, ignore_errors=True)
        _lock_path(folder).unlink(missing_ok=True)
    finally:
        os.close(lock)


def _sweep(releases: Path) -> None:
    """Remove staging folders whose owner is dead."""
    for name in sorted({p.name.removesuffix(_LOCK) for p in releases.glob(f"{PREFIX}*")}):
        folder = releases / name
        try:
            lock = os.open(_lock_path(folder), os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            log.warning("cannot clean up %s: %s", folder, error.strerror)
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            continue
        _disown(folder, lock)


def _lock_path(folder: Path) -> Path:
    return folder.with_name(folder.name + _LOCK)
