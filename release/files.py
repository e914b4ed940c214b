"""Files of a release on disk: walk them, hash them, write them so that they survive a power cut."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from release.manifest import File


@dataclass(frozen=True)
class Tree:
    """What is below a folder. Keys and names are relative paths with forward slashes.

    `foreign` names what a release may not hold: symlinks, pipes, sockets, devices.
    """

    directories: tuple[Path, ...]
    files: dict[str, Path]
    foreign: tuple[str, ...]

    def size(self) -> int:
        """Bytes of all files together."""
        return sum(path.stat().st_size for path in self.files.values())


def walk(root: Path) -> Tree:
    """List everything below `root` without following a link.

    Raises:
        OSError: a folder cannot be read.
    """
    directories: list[Path] = []
    files: dict[str, Path] = {}
    foreign: list[str] = []
    for folder, subfolders, names in os.walk(root, onerror=_raise):
        here = Path(folder)
        directories.append(here)
        links = [name for name in subfolders if (here / name).is_symlink()]
        for name in links + names:
            path = here / name
            relative = path.relative_to(root).as_posix()
            if stat.S_ISREG(path.lstat().st_mode):
                files[relative] = path
            else:
                foreign.append(relative)
    return Tree(tuple(directories), files, tuple(sorted(foreign)))


def measure(path: Path, relative: str) -> File:
    """Read a file once, in chunks, and return its size and SHA-256."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return File(path=relative, size=stream.tell(), sha256=digest)


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_public(path: Path, text: str) -> None:
    """Write a file that others may read (0644), and wait until it is on the disk."""
    with path.open("w", encoding="utf-8") as stream:
        os.fchmod(stream.fileno(), 0o644)
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def replace_public(path: Path, text: str) -> None:
    """Replace a file in one step: a reader sees the old text or the new one, never a part.

    Callers hold a lock on `path`, because the temporary file has a fixed name.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        write_public(temporary, text)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def make_public_directory(path: Path) -> None:
    """Make a folder that others may read, whatever the umask; leave an existing one as it is."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        folder.chmod(0o755)


def human_size(size: float) -> str:
    """A size in decimal units, as file managers show it: 1500000 → 1.5 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _raise(error: OSError) -> None:
    raise error
