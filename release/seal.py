"""Sealing: turn a staged folder into a release that never changes again."""

from __future__ import annotations

import errno
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from release.check import check_release
from release.errors import ReleaseError
from release.files import Tree, measure, sync, walk, write_public
from release.manifest import (
    MANIFEST,
    SCHEMA_VERSION,
    Draft,
    File,
    Manifest,
    content_of,
    content_sha256,
    read_manifest,
)
from release.staging import disk_full, is_disk_full

# One pattern for each part that an engine cannot start without, and what it is.
REQUIRED = {
    r"adapter/adapter_config\.json": "adapter/adapter_config.json",
    r"adapter/[^/]+\.safetensors": "the adapter's weights, adapter/*.safetensors",
    r"merged/config\.json": "merged/config.json",
    r"merged/[^/]+\.safetensors": "the merged weights, merged/*.safetensors",
    r"merged/tokenizer\.(json|model)": "the tokenizer, merged/tokenizer.json",
    r"merged/tokenizer_config\.json": "merged/tokenizer_config.json",
    r"merged/chat_template\.jinja": "merged/chat_template.jinja",
    r"gguf/[^/]+\.[A-Z][A-Z0-9_]*\.gguf": "a GGUF file, gguf/<name>.<QUANT>.gguf",
}


def seal(staged: Path, draft: Draft) -> Manifest:
    """Check, hash and publish a staged folder beside itself, as `<its parent>/<id>`.

    Identical content sealed again on the same day (UTC) gives the release that is there already.

    Raises:
        ReleaseError: a part is missing or not allowed, the disk is full or fails, or a damaged
            release stands where this one belongs. Nothing is published then.
    """
    created = _now()
    try:
        tree = walk(staged)
        _check_parts(tree)
        _open_to_readers(tree)
        files = [_measure(tree.files[path], path) for path in sorted(tree.files)]
        _check_template(draft, files)
        release_id = _write_manifest(staged, draft, files, created)
        for path in (*tree.files.values(), *tree.directories):
            sync(path)
        return _publish(staged, release_id)
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(staged, 0, error) from error
        raise ReleaseError(
            f"cannot seal release {draft.name} in {staged.parent}: {error.strerror}"
            f"{f' ({error.filename})' if error.filename else ''}"
        ) from error


def _now() -> datetime:
    return datetime.now(UTC)


def _check_parts(tree: Tree) -> None:
    if tree.foreign:
        raise ReleaseError(
            f"a release holds plain files only, and {', '.join(tree.foreign)} is a link or a "
            "special file: copy the file it stands for"
        )
    tree.files.pop(MANIFEST, None)  # Of an earlier attempt to seal; it is written anew.
    missing = []
    for pattern, what in REQUIRED.items():
        found = [path for name, path in tree.files.items() if re.fullmatch(pattern, name)]
        if not found:
            missing.append(what)
        elif any(path.stat().st_size == 0 for path in found):
            missing.append(f"{what} (it is empty)")
    if missing:
        raise ReleaseError(
            f"the release is not complete; missing: {'; '.join(missing)}. Export the adapter, the "
            "merged model and a GGUF into the staging folder before sealing"
        )


def _open_to_readers(tree: Tree) -> None:
    # Servers run as other users, and safetensors are written with mode 0600.
    for path in tree.files.values():
        path.chmod(0o644)
    for path in tree.directories:
        path.chmod(0o755)


def _measure(path: Path, relative: str) -> File:
    try:
        return measure(path, relative)
    except ValidationError as error:
        raise ReleaseError(f"a file's name cannot be kept: {error.errors()[0]['msg']}") from error


def _check_template(draft: Draft, files: list[File]) -> None:
    served = draft.served
    found = {file.path: file.sha256 for file in files}.get(served.chat_template_file)
    if found is None:
        raise ReleaseError(f"the draft serves {served.chat_template_file}, which was not staged")
    if found != served.chat_template_sha256:
        raise ReleaseError(
            f"{served.chat_template_file} has SHA-256 {found[:12]}…, but the draft was trained "
            f"with {served.chat_template_sha256[:12]}…: stage the template that was trained with"
        )


def _write_manifest(staged: Path, draft: Draft, files: list[File], created: datetime) -> str:
    content = content_of(draft)
    digest = content_sha256(content, files)
    release_id = f"{draft.name}-{created:%Y%m%d}-{digest[:8]}"
    manifest: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "id": release_id,
        "created": created.isoformat(timespec="milliseconds"),
        "content_sha256": digest,
        **content,
        "parity": draft.parity,
        "files": [file.model_dump() for file in files],
    }
    text = json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False)
    write_public(staged / MANIFEST, text + "\n")
    # What cannot be read back must not be published.
    written = read_manifest(staged)
    if content_sha256(content_of(written), written.files) != digest:
        raise ReleaseError(f"release {release_id} does not survive being written as JSON")
    return release_id


def _publish(staged: Path, release_id: str) -> Manifest:
    target = staged.with_name(release_id)
    try:
        staged.rename(target)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise
        return _existing(target, read_manifest(staged))
    sync(target.parent)
    return read_manifest(target)


def _existing(target: Path, sealed: Manifest) -> Manifest:
    """The release that already has this id, if it is whole and has this content."""
    advice = f"Move {target} away and seal again"
    try:
        manifest = read_manifest(target)
        problems = check_release(target)
    except ReleaseError as error:
        raise ReleaseError(
            f"release {target.name} is there but damaged: {error}. {advice}"
        ) from error
    if problems:
        raise ReleaseError(
            f"release {target.name} is there but damaged: {problems[0]} "
            f"({len(problems)} problem(s)). {advice}"
        )
    if manifest.content_sha256 != sealed.content_sha256:
        raise ReleaseError(
            f"release {target.name} is there with other content: seal under another name"
        )
    return manifest
