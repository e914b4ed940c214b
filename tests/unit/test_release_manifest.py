"""The manifest: versions of its schema, paths that stay inside, equal content, equal hash."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from release.check import check_release
from release.errors import ReleaseError
from release.manifest import MANIFEST, File, content_of, content_sha256, read_manifest
from release.store import ReleaseStore
from tests.release_bundle import draft, sealed

SHA = "b" * 64


@pytest.fixture
def release(tmp_path: Path) -> Path:
    store = ReleaseStore(tmp_path)
    return store.path(sealed(store).id)


def rewrite(release: Path, **changes: Any) -> None:
    path = release / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_newer_major_is_refused_with_the_way_out(release: Path) -> None:
    rewrite(release, schema_version="2.0", something_new=True)
    with pytest.raises(
        ReleaseError, match=r"schema 2\.0; this Toolsmith reads up to 1\.x.*Upgrade"
    ):
        read_manifest(release)


def test_later_minor_keeps_unknown_keys(release: Path) -> None:
    before = json.loads((release / MANIFEST).read_text())
    served = {**before["served"], "reasoning_parser": "none"}
    rewrite(release, schema_version="1.7", served=served, licence="apache-2.0")
    manifest = read_manifest(release)
    written = manifest.model_dump(mode="json")
    assert written["licence"] == "apache-2.0"
    assert written["served"]["reasoning_parser"] == "none"
    # They are content: a later version hashes them, so this one must, too.
    digest = content_sha256(content_of(manifest), manifest.files)
    rewrite(release, content_sha256=digest, id=f"{manifest.id[:-8]}{digest[:8]}")
    renamed = release.rename(release.with_name(f"{manifest.id[:-8]}{digest[:8]}"))
    assert check_release(renamed) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as JSON"),
        ("[]", "names no schema_version"),
        ('{"schema_version": "one"}', "names no schema_version"),
        ('{"schema_version": "1.0"}', "name: Field required"),
        ("\x00\xff", "cannot be read as JSON"),
    ],
)
def test_damaged_manifest_is_named(release: Path, text: str, message: str) -> None:
    (release / MANIFEST).write_bytes(text.encode("latin-1"))
    with pytest.raises(ReleaseError, match=message) as caught:
        read_manifest(release)
    assert str(release / MANIFEST) in str(caught.value)


def test_folder_without_manifest(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"holds no release\.json"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../x", "a/../../x", "a//b", "./a", "", "a/", "a\nb", "a\x1b[31m", "\udcff"],
)
def test_paths_cannot_leave_the_release(path: str) -> None:
    with pytest.raises(ValidationError):
        File(path=path, size=1, sha256=SHA)


@pytest.mark.parametrize(
    "path", ["a", "a/b.c", "reports/Übung 1.html", "reports/工具.json", "..a/b"]
)
def test_plain_paths_are_kept(path: str) -> None:
    assert File(path=path, size=1, sha256=SHA).path == path


def test_hash_ignores_order_and_sees_every_field() -> None:
    files = [File(path=path, size=1, sha256=SHA) for path in ("b", "a")]
    content = content_of(draft())
    digest = content_sha256(content, files)
    assert content_sha256(dict(reversed(content.items())), reversed(files)) == digest
    assert content_sha256({**content, "training": {}}, files) != digest
    assert content_sha256(content, files[:1]) != digest
    assert content_sha256(content, [files[0], File(path="c", size=1, sha256=SHA)]) != digest


def test_verdict_of_parity_is_not_content() -> None:
    proven = draft().model_copy(update={"parity": {"verdict": "passed"}})
    assert content_of(proven) == content_of(draft())


def test_values_without_a_json_form_are_refused() -> None:
    with pytest.raises(ReleaseError, match="not JSON"):
        content_of(draft().model_copy(update={"training": {"callback": object()}}))
    with pytest.raises(ReleaseError, match="not JSON"):
        content_sha256({"loss": float("nan")}, [])


def test_gguf_by_quantisation(release: Path) -> None:
    assert read_manifest(release).gguf() == {"Q8_0": "gguf/toy.Q8_0.gguf"}
