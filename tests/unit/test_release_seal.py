"""Sealing: what is refused, what is published, and that nothing half-done is ever seen."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

import release.seal
from release.errors import ReleaseError
from release.manifest import MANIFEST, Draft, Manifest, Served
from release.store import ReleaseStore
from tests.release_bundle import FILES, draft, fill, public_folder, read_only, sealed


@pytest.fixture
def store(tmp_path: Path) -> ReleaseStore:
    return ReleaseStore(tmp_path / "models")


def left_over(store: ReleaseStore) -> list[str]:
    return sorted(path.name for path in (store.root / "releases").iterdir())


def seal_after(
    store: ReleaseStore, change: Callable[[Path], object], what: Draft | None = None
) -> Manifest:
    """Stage a whole release, change it, and seal it."""
    with store.stage() as staged:
        fill(staged)
        change(staged)
        return store.seal(staged, what or draft())


def refused(store: ReleaseStore, change: Callable[[Path], object]) -> str:
    with pytest.raises(ReleaseError) as caught:
        seal_after(store, change)
    assert left_over(store) == []
    return str(caught.value)


def test_sealed_release_can_be_found(store: ReleaseStore) -> None:
    manifest = sealed(store)
    today = datetime.now(UTC)
    assert manifest.id == f"toy-{manifest.created:%Y%m%d}-{manifest.content_sha256[:8]}"
    assert abs((today - manifest.created).total_seconds()) < 60
    assert {file.path for file in manifest.files} == {*FILES, "merged/chat_template.jinja"}
    assert store.get(manifest.id) == manifest
    assert store.verify_files(manifest.id) == []
    assert left_over(store) == [manifest.id]


def test_others_can_read_it_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        store = ReleaseStore(tmp_path / "deep" / "models")
        manifest = sealed(store)
        store.promote(manifest.id)
    finally:
        os.umask(before)
    for path in (tmp_path / "deep", *(tmp_path / "deep").rglob("*")):
        if path.name != ".lock":
            wanted = 0o755 if path.is_dir() else 0o644
            assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_staging_is_private_until_sealed(store: ReleaseStore) -> None:
    with store.stage() as staged:
        assert stat.S_IMODE(staged.stat().st_mode) == 0o700
        assert store.list().releases == []
        assert store.list().problems == []


def test_same_content_same_day_is_the_same_release(store: ReleaseStore) -> None:
    first = sealed(store)
    assert sealed(store) == first
    assert left_over(store) == [first.id]


def test_same_content_on_another_day_has_the_same_hash(
    store: ReleaseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = sealed(store)
    monkeypatch.setattr(release.seal, "_now", lambda: datetime(2031, 2, 3, tzinfo=UTC))
    second = sealed(store)
    assert second.content_sha256 == first.content_sha256
    assert second.id == f"toy-20310203-{first.id[-8:]}"
    assert [item.id for item in store.list().releases] == [second.id, first.id]


def test_other_bytes_other_release(store: ReleaseStore) -> None:
    assert sealed(store, "one").content_sha256 != sealed(store, "two").content_sha256


def test_damaged_twin_is_not_taken_for_the_release(store: ReleaseStore) -> None:
    first = sealed(store)
    weights = store.path(first.id) / "merged/model.safetensors"
    weights.write_bytes(b"x" * weights.stat().st_size)
    with pytest.raises(ReleaseError, match=r"damaged: merged/model\.safetensors.*Move .* away"):
        sealed(store)
    assert left_over(store) == [first.id]


def test_foreign_file_in_the_place_of_the_release(store: ReleaseStore) -> None:
    first = sealed(store)
    shutil.rmtree(store.path(first.id))
    (store.root / "releases" / first.id).write_text("not a release")
    with pytest.raises(ReleaseError, match="is there but damaged"):
        sealed(store)


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("reports/")])
def test_missing_part_is_named(store: ReleaseStore, name: str) -> None:
    def remove(staged: Path) -> None:
        (staged / name).unlink()

    message = refused(store, remove)
    assert "not complete" in message
    assert name.split("/")[0] in message


def test_empty_part_is_named(store: ReleaseStore) -> None:
    message = refused(store, lambda staged: (staged / "gguf/toy.Q8_0.gguf").write_bytes(b""))
    assert "it is empty" in message


def test_gguf_without_a_quantisation_in_its_name(store: ReleaseStore) -> None:
    message = refused(
        store, lambda staged: (staged / "gguf/toy.Q8_0.gguf").rename(staged / "gguf/toy.gguf")
    )
    assert "gguf/<name>.<QUANT>.gguf" in message


@pytest.mark.parametrize("target", ["/etc/passwd", "model.safetensors", "../../outside"])
def test_links_are_refused(store: ReleaseStore, target: str) -> None:
    message = refused(store, lambda staged: (staged / "merged/link").symlink_to(target))
    assert "merged/link is a link" in message


def test_linked_folders_and_pipes_are_refused(store: ReleaseStore) -> None:
    assert "reports/all" in refused(
        store, lambda staged: (staged / "reports/all").symlink_to("/tmp", target_is_directory=True)
    )
    assert "reports/pipe" in refused(store, lambda staged: os.mkfifo(staged / "reports/pipe"))


@pytest.mark.parametrize("name", [b"bad-\xff", b"new\nline", b"esc\x1b[31m"])
def test_names_that_cannot_be_kept(store: ReleaseStore, name: bytes) -> None:
    message = refused(
        store,
        lambda staged: Path(os.fsdecode(os.fsencode(staged / "reports") + b"/" + name)).touch(),
    )
    assert "a file's name cannot be kept" in message


def test_unicode_names_are_kept(store: ReleaseStore) -> None:
    name = "reports/Übung 'eins' 工具.json"
    manifest = seal_after(store, lambda staged: (staged / name).write_text("{}"))
    assert name in {file.path for file in manifest.files}
    assert store.verify_files(manifest.id) == []


def test_template_must_be_the_one_trained_with(store: ReleaseStore) -> None:
    message = refused(
        store, lambda staged: (staged / "merged/chat_template.jinja").write_text("{{ other }}")
    )
    assert "stage the template that was trained with" in message


@pytest.mark.parametrize("path", ["../../secret", "/etc/passwd"])
def test_template_path_cannot_leave_the_release(path: str) -> None:
    with pytest.raises(ValueError, match="not a plain path inside the release"):
        Served.model_validate({**draft().served.model_dump(), "chat_template_file": path})


def test_unstaged_template_file(store: ReleaseStore) -> None:
    served = draft().served.model_copy(update={"chat_template_file": "merged/other.jinja"})
    other = draft().model_copy(update={"served": served})
    with pytest.raises(ReleaseError, match="was not staged"):
        seal_after(store, lambda _: None, other)


def test_only_this_stores_staging_is_sealed(store: ReleaseStore, tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere")
    with pytest.raises(ReleaseError, match=r"use stage\(\)"):
        store.seal(tmp_path / "elsewhere", draft())
    assert not (tmp_path / "elsewhere" / MANIFEST).exists()


def test_second_attempt_after_a_refusal(store: ReleaseStore) -> None:
    with store.stage() as staged:
        fill(staged)
        weights = (staged / "gguf/toy.Q8_0.gguf").rename(staged / "gguf/away")
        with pytest.raises(ReleaseError, match="not complete"):
            store.seal(staged, draft())
        weights.rename(staged / "gguf/toy.Q8_0.gguf")
        manifest = store.seal(staged, draft())
    assert store.verify_files(manifest.id) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_staging_goes_when_the_work_fails(store: ReleaseStore, error: type[BaseException]) -> None:
    def fail(_: Path) -> None:
        raise error

    with pytest.raises(error):
        seal_after(store, fail)
    assert left_over(store) == []


def test_store_that_cannot_be_written() -> None:
    with public_folder() as folder:
        store = ReleaseStore(folder)
        manifest = sealed(store)
        with (
            read_only(folder),
            pytest.raises(ReleaseError, match="cannot prepare a release in"),
        ):
            sealed(store, "two")
        assert left_over(store) == [manifest.id]


def test_live_staging_of_another_is_left_alone(store: ReleaseStore) -> None:
    with store.stage() as first:
        fill(first, "one")
        with store.stage() as second:
            fill(second, "two")
            two = store.seal(second, draft())
        one = store.seal(first, draft())
    assert left_over(store) == sorted([one.id, two.id])


def test_dead_staging_is_swept_and_never_listed(store: ReleaseStore) -> None:
    dead = store.root / "releases" / ".staging-0123456789abcdef"
    fill(dead)
    dead.with_name(f"{dead.name}.lock").touch()
    (store.root / "releases" / ".staging-without-lock").mkdir()
    assert store.list().releases == []
    assert store.list().problems == []
    with store.stage() as staged:
        assert left_over(store) == [staged.name, f"{staged.name}.lock"]
