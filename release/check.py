"""Compare a sealed release with its manifest: is each byte what was sealed?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from release.files import human_size, measure, walk
from release.manifest import MANIFEST, File, Manifest, content_of, content_sha256, read_manifest

Kind = Literal["missing", "extra", "type", "size", "hash", "unreadable", "manifest"]


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one file of a release; `path` is relative to the release."""

    kind: Kind
    path: str
    detail: str

    def __str__(self) -> str:
        return f"{self.path}: {self.detail}"


def check_release(directory: Path) -> list[Problem]:
    """Read every file of a release and return what differs from its manifest, sorted by path.

    Raises:
        ReleaseError: the manifest cannot be read.
        OSError: a folder cannot be read.
    """
    manifest = read_manifest(directory)
    tree = walk(directory)
    expected = {file.path: file for file in manifest.files}
    problems = _check_manifest(manifest, directory.name)
    problems += [Problem("type", path, "is a link or no regular file") for path in tree.foreign]
    for path, file in expected.items():
        if path in tree.files:
            problems += _check_file(tree.files[path], file)
        elif path not in tree.foreign:
            problems.append(Problem("missing", path, "is missing"))
    for path in tree.files.keys() - expected.keys() - {MANIFEST}:
        problems.append(Problem("extra", path, "was not there when the release was sealed"))
    return sorted(problems, key=lambda problem: problem.path)


def _check_manifest(manifest: Manifest, name: str) -> list[Problem]:
    problems = []
    if manifest.id != name:
        problems.append(Problem("manifest", MANIFEST, f"is the manifest of {manifest.id}"))
    digest = content_sha256(content_of(manifest), manifest.files)
    if digest != manifest.content_sha256 or not manifest.id.endswith(f"-{digest[:8]}"):
        problems.append(
            Problem(
                "manifest", MANIFEST, "does not match its own hash: it was edited after sealing"
            )
        )
    return problems


def _check_file(path: Path, expected: File) -> list[Problem]:
    try:
        size = path.stat().st_size
        if size != expected.size:
            detail = f"has {human_size(size)} ({size} bytes), sealed with {expected.size} bytes"
            return [Problem("size", expected.path, detail)]
        found = measure(path, expected.path)
    except OSError as error:
        return [Problem("unreadable", expected.path, f"cannot be read: {error.strerror}")]
    if found.sha256 != expected.sha256:
        detail = f"has other bytes than were sealed (SHA-256 {found.sha256[:12]}…, "
        return [Problem("hash", expected.path, f"{detail}sealed {expected.sha256[:12]}…)")]
    return []
