"""The store: list, resolve, verify, channels, promote, roll back; nothing foreign breaks it."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

import pytest

from release.errors import NotFoundError, ReleaseError
from release.manifest import MANIFEST
from release.store import ReleaseStore
from tests.release_bundle import public_folder, read_only, sealed


@pytest.fixture
def store(tmp_path: Path) -> ReleaseStore:
    return ReleaseStore(tmp_path / "models")


def test_empty_store_lists_nothing_and_creates_nothing(store: ReleaseStore) -> None:
    listing = store.list()
    assert (listing.releases, listing.channels, listing.problems) == ([], [], [])
    assert not store.root.exists()
    with pytest.raises(NotFoundError, match="no channel 'stable'"):
        store.channel()


def test_newest_first(store: ReleaseStore) -> None:
    ids = [sealed(store, seed).id for seed in ("one", "two", "three")]
    assert [manifest.id for manifest in store.list().releases] == ids[::-1]


def test_foreign_things_are_reported_and_break_nothing(store: ReleaseStore) -> None:
    manifest = sealed(store)
    store.set_channel("stable", manifest.id)
    releases = store.root / "releases"
    (releases / "notes.txt").write_text("hello")
    (releases / ".DS_Store").write_bytes(b"\0")
    (releases / "empty").mkdir()
    shutil.copytree(store.path(manifest.id), releases / f"copy-{manifest.id}")
    (releases / "toy-20260101-00000000").mkdir()
    (releases / "toy-20260101-00000000" / MANIFEST).write_text('{"schema_version": "9.0"}')
    (releases / "toy-20260101-11111111").symlink_to("nowhere")
    (store.root / "channels" / "beta.json").write_text("{")
    (store.root / "channels" / "No Channel.json").write_text("{}")
    (store.root / "channels" / "README").write_text("hello")
    listing = store.list()
    assert listing.releases == [manifest]
    assert [channel.name for channel in listing.channels] == ["stable"]
    problems = "\n".join(listing.problems)
    assert len(listing.problems) == 8
    for part in ("notes.txt", ".DS_Store", "empty", "copy-", "schema 9.0", "beta.json"):
        assert part in problems


def test_renamed_release_is_refused(store: ReleaseStore) -> None:
    manifest = sealed(store)
    other = f"other-{manifest.id.partition('-')[2]}"
    store.path(manifest.id).rename(store.root / "releases" / other)
    with pytest.raises(ReleaseError, match="cannot be renamed"):
        store.get(other)


@pytest.mark.parametrize(
    "release_id",
    ["", ".", "..", "../x", "/etc", "toy", "toy-20260101-0000000g", "a/b-20260101-00000000"],
)
def test_ids_cannot_leave_the_store(store: ReleaseStore, release_id: str) -> None:
    with pytest.raises(ReleaseError, match="is no release id"):
        store.path(release_id)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "/x", "Stable", "a b", "-x", "a\n", "x" * 33]
)
def test_channel_names_cannot_leave_the_store(store: ReleaseStore, name: str) -> None:
    manifest = sealed(store)
    for change in (store.set_channel, lambda name, _: store.channel(name)):
        with pytest.raises(ReleaseError, match="is no channel name"):
            change(name, manifest.id)
    with pytest.raises(ReleaseError, match="is no channel name"):
        store.promote(manifest.id, name)


def test_resolve(store: ReleaseStore) -> None:
    one, two = sealed(store, "one"), sealed(store, "two", name="other")
    store.set_channel("stable", two.id)
    assert store.resolve(one.id) == one.id
    assert store.resolve("stable") == two.id
    assert store.resolve("toy") == one.id
    assert store.resolve(two.id[:-2]) == two.id
    for ref in ("", "nothing", "../releases"):
        with pytest.raises(NotFoundError, match="no release or channel"):
            store.resolve(ref)
    three = sealed(store, "three")
    with pytest.raises(ReleaseError, match=f"fits 2 releases: .*{three.id}"):
        store.resolve("toy-")


def test_verify_finds_what_changed(store: ReleaseStore) -> None:
    manifest = sealed(store)
    folder = store.path(manifest.id)
    (folder / "gguf/toy.Q8_0.gguf").unlink()
    (folder / "reports/new.txt").write_text("late")
    with (folder / "merged/config.json").open("ab") as stream:
        stream.write(b"!")
    (folder / "merged/tokenizer.json").unlink()
    (folder / "merged/tokenizer.json").symlink_to("tokenizer_config.json")
    found = {(problem.kind, problem.path) for problem in store.verify_files(manifest.id)}
    assert found == {
        ("missing", "gguf/toy.Q8_0.gguf"),
        ("extra", "reports/new.txt"),
        ("size", "merged/config.json"),
        ("type", "merged/tokenizer.json"),
    }


def test_every_flipped_bit_is_found(store: ReleaseStore) -> None:
    manifest = sealed(store)
    folder = store.path(manifest.id)
    for number, file in enumerate(manifest.files):
        path = folder / file.path
        content = bytearray(path.read_bytes())
        content[number * 7 % len(content)] ^= 1 << number % 8
        path.write_bytes(content)
        problems = store.verify_files(manifest.id)
        assert [(problem.kind, problem.path) for problem in problems] == [("hash", file.path)]
        content[number * 7 % len(content)] ^= 1 << number % 8
        path.write_bytes(content)
    assert store.verify_files(manifest.id) == []


def test_edited_manifest_is_found(store: ReleaseStore) -> None:
    manifest = sealed(store)
    path = store.path(manifest.id) / MANIFEST
    raw = json.loads(path.read_text())
    raw["scores"][0]["tuned"] = 1.0
    path.write_text(json.dumps(raw))
    assert [problem.kind for problem in store.verify_files(manifest.id)] == ["manifest"]


def test_unreadable_file_is_a_problem() -> None:
    with public_folder() as folder:
        store = ReleaseStore(folder)
        manifest = sealed(store)
        (store.path(manifest.id) / "merged/config.json").chmod(0)
        with read_only(folder):
            problems = store.verify_files(manifest.id)
    assert [(problem.kind, problem.path) for problem in problems] == [
        ("unreadable", "merged/config.json")
    ]


def test_promote_and_roll_back(store: ReleaseStore) -> None:
    one, two = sealed(store, "one"), sealed(store, "two")
    assert store.promote(one.id).previous is None
    with pytest.raises(ReleaseError, match="nothing to go back to"):
        store.rollback()
    promoted = store.promote(two.id)
    assert (promoted.release, promoted.previous) == (two.id, one.id)
    assert store.promote(two.id) == promoted, "promoting again must keep the way back"
    assert store.rollback().release == one.id
    assert store.channel().release == one.id
    assert store.rollback().release == two.id
    assert store.promote(one.id, "beta").name == "beta"
    assert store.channel().release == two.id


def test_damaged_release_is_not_promoted(store: ReleaseStore) -> None:
    one, two = sealed(store, "one"), sealed(store, "two")
    store.promote(one.id)
    weights = store.path(two.id) / "gguf/toy.Q8_0.gguf"
    weights.write_bytes(b"\0" * weights.stat().st_size)
    with pytest.raises(ReleaseError, match=r"was not promoted: gguf/toy\.Q8_0\.gguf"):
        store.promote(two.id)
    assert store.channel().release == one.id


def test_rollback_to_a_release_that_is_gone(store: ReleaseStore) -> None:
    one, two = sealed(store, "one"), sealed(store, "two")
    store.promote(one.id)
    store.promote(two.id)
    shutil.rmtree(store.path(one.id))
    with pytest.raises(NotFoundError, match=one.id):
        store.rollback()
    assert store.channel().release == two.id


def test_channel_of_no_release(store: ReleaseStore) -> None:
    with pytest.raises(NotFoundError):
        store.set_channel("stable", "toy-20260101-00000000")
    assert not (store.root / "channels").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "stable", "release": "../../etc"}'])
def test_damaged_channel_is_named_and_can_be_written_anew(store: ReleaseStore, text: str) -> None:
    manifest = sealed(store)
    (store.root / "channels").mkdir()
    path = store.root / "channels" / "stable.json"
    path.write_text(text)
    with pytest.raises(ReleaseError, match="is not a channel file") as caught:
        store.channel()
    assert str(path) in str(caught.value)
    assert store.promote(manifest.id).release == manifest.id
    assert store.channel().release == manifest.id


def test_read_only_store_serves_and_refuses_to_change() -> None:
    with public_folder() as folder:
        store = ReleaseStore(folder)
        one, two = sealed(store, "one"), sealed(store, "two")
        store.promote(one.id)
        with read_only(folder):
            listing = store.list()
            assert {manifest.id for manifest in listing.releases} == {one.id, two.id}
            assert listing.problems == []
            assert store.resolve("stable") == one.id
            assert store.verify_files(one.id) == []
            with pytest.raises(
                ReleaseError, match=r"cannot write .*stable\.json: Permission denied"
            ):
                store.promote(two.id)
        assert store.channel().release == one.id


def test_channel_that_cannot_be_written_keeps_its_release(
    store: ReleaseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = sealed(store, "one"), sealed(store, "two")
    store.promote(one.id)

    def fail(_: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ReleaseError, match=r"No space left on device.*still says what it did"):
        store.set_channel("stable", two.id)
    assert store.channel().release == one.id
    assert sorted(path.name for path in (store.root / "channels").iterdir()) == [
        ".lock",
        "stable.json",
    ]


def test_two_sealers_at_once(store: ReleaseStore) -> None:
    seeds = ["one", "one", "two", "three"]
    start = threading.Barrier(len(seeds))
    results: dict[int, str] = {}

    def work(number: int) -> None:
        start.wait(timeout=10)
        results[number] = sealed(store, seeds[number]).id

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(seeds))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert results[0] == results[1]
    assert len(set(results.values())) == 3
    assert sorted(path.name for path in (store.root / "releases").iterdir()) == sorted(
        set(results.values())
    )
    assert all(store.verify_files(release_id) == [] for release_id in results.values())


def test_two_promoters_at_once_keep_a_way_back(store: ReleaseStore) -> None:
    ids = [sealed(store, seed).id for seed in ("one", "two", "three")]
    store.promote(ids[0])
    start = threading.Barrier(2)

    def work(release_id: str) -> None:
        start.wait(timeout=10)
        store.promote(release_id)

    threads = [threading.Thread(target=work, args=(release_id,)) for release_id in ids[1:]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    channel = store.channel()
    assert {channel.release, channel.previous} == set(ids[1:])
