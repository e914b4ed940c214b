"""Killed, interrupted or out of space: what was half done is never seen."""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

import release.seal
from release.errors import ReleaseError
from release.staging import is_disk_full
from release.store import ReleaseStore
from tests.release_bundle import check_whole, draft, fill, sealed

ROUNDS = 20
REPOSITORY = Path(release.seal.__file__).parent.parent


KILLED = """
import os, random, select, signal, sys
from pathlib import Path
from release.store import ReleaseStore
from tests.release_bundle import check_swept, check_whole, sealed

root, rounds = Path(sys.argv[1]), int(sys.argv[2])
store, rng, found = ReleaseStore(root), random.Random(7), 0
left = 0
for seed in range(rounds):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        number = 0
        while True:
            store.promote(sealed(store, f"{seed} {number}").id)
            os.write(writer, b".")
            number += 1
    os.close(writer)
    for _ in range(rng.randrange(3)):
        assert os.read(reader, 1) == b"."
    # The moment of the kill is what varies: up to a whole seal and promotion later.
    select.select([reader], [], [], rng.uniform(0, 0.05))
    os.kill(child, signal.SIGKILL)
    os.close(reader)
    os.waitpid(child, 0)
    left += len(list((root / "releases").glob(".staging-*.lock")))
    check_whole(store)
    assert len(store.list().releases) >= found
    found = len(store.list().releases)
    if (root / "channels" / "stable.json").exists():
        store.channel()
check_swept(store)
print(found, left)
"""


def test_kill_at_any_moment(tmp_path: Path) -> None:
    # A process of its own, because pytest's may have threads, and those do not survive a fork.
    result = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), str(ROUNDS)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    releases, left_over = map(int, result.stdout.split())
    assert releases > 0, "no round came as far as a release: the test shows nothing"
    assert left_over > 0, "no kill came in the middle of a seal: the test shows nothing"


class Interrupt:
    """Raises KeyboardInterrupt at the n-th call that Python makes, as Ctrl-C would."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def _profile(self, _: FrameType, event: str, __: object) -> None:
        if event in ("call", "c_call"):
            self.left -= 1
            if self.left == 0:
                sys.setprofile(None)
                raise KeyboardInterrupt

    def __enter__(self) -> None:
        sys.setprofile(self._profile)

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)


def test_interrupt_at_any_call(tmp_path: Path) -> None:
    for attempt in range(1, 1000):
        store = ReleaseStore(tmp_path / str(attempt))
        interrupt = Interrupt(attempt * 37)
        with contextlib.suppress(KeyboardInterrupt), interrupt:
            with store.stage() as staged:
                fill(staged)
                manifest = store.seal(staged, draft())
            store.promote(manifest.id)
        check_whole(store)
        if interrupt.left > 0:
            break
    assert interrupt.left > 0
    assert attempt > 50, "sealing made too few calls for this test to show anything"
    assert store.channel().release == manifest.id


INTERRUPTED = """
import signal, sys
from pathlib import Path
import release.seal
from release.store import ReleaseStore
from tests.release_bundle import draft, fill

measure, measured = release.seal.measure, []

def wait_at_the_third_file(path, relative):
    measured.append(relative)
    if len(measured) == 3:
        print("sealing", flush=True)
        signal.pause()
    return measure(path, relative)

release.seal.measure = wait_at_the_third_file
store = ReleaseStore(Path(sys.argv[1]))
with store.stage() as staged:
    fill(staged)
    store.seal(staged, draft())
"""


def test_ctrl_c_while_sealing_leaves_nothing(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "sealing\n"
    child.send_signal(signal.SIGINT)
    _, stderr = child.communicate(timeout=30)
    assert "KeyboardInterrupt" in stderr
    assert child.returncode == -signal.SIGINT
    assert list((tmp_path / "releases").iterdir()) == []


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow past `size` bytes: a full disk that any user can have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def export(store: ReleaseStore, size: int, needs: int = 0) -> None:
    with store.stage(needs) as staged:
        fill(staged)
        (staged / "merged/model.safetensors").write_bytes(b"x" * size)


def test_no_room_while_exporting(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError) as caught, largest_file(50_000):
        export(ReleaseStore(tmp_path), 60_000)
    message = str(caught.value)
    assert str(tmp_path / "releases") in message
    assert "File too large" in message
    assert "it needs more than 54" in message
    assert "Nothing was sealed" in message
    assert list((tmp_path / "releases").iterdir()) == []


def test_no_room_for_the_manifest(tmp_path: Path) -> None:
    store = ReleaseStore(tmp_path)
    with store.stage() as staged:
        fill(staged)
        with pytest.raises(ReleaseError, match="no space for the release"), largest_file(700):
            store.seal(staged, draft())
        check_whole(store)
        assert store.list().releases == []
        manifest = store.seal(staged, draft())
    assert store.verify_files(manifest.id) == []


def test_no_room_for_the_channel(tmp_path: Path) -> None:
    store = ReleaseStore(tmp_path)
    one, two = sealed(store, "one"), sealed(store, "two")
    store.promote(one.id)
    with pytest.raises(ReleaseError, match="still says what it did"), largest_file(20):
        store.promote(two.id)
    assert store.channel().release == one.id


def test_too_small_a_disk_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"free and the release needs about 1000000\.0 TB"):
        export(ReleaseStore(tmp_path), 1, needs=10**18)
    assert list((tmp_path / "releases").iterdir()) == []


def test_full_disk_is_known_in_the_words_of_rust() -> None:
    words = "Error while serializing: I/O error: No space left on device (os error 28)"
    assert is_disk_full(RuntimeError(words))
    assert not is_disk_full(RuntimeError("os error 2"))
    assert not is_disk_full(OSError(2, "No such file or directory"))


FULL_DISK = """
import json, shutil, sys
from pathlib import Path
from release.errors import ReleaseError
from release.store import ReleaseStore
from tests.release_bundle import draft, fill, sealed

root = Path(sys.argv[1])
store = ReleaseStore(root)
messages = []
try:
    with store.stage() as staged:
        fill(staged, size=400_000)
except ReleaseError as error:
    messages.append(str(error))
one = sealed(store)
store.promote(one.id)
two = sealed(store, "two")
with store.stage() as staged:
    fill(staged, "three")
    filler = root / "filler"
    try:
        with filler.open("wb", buffering=0) as stream:
            while stream.write(bytes(4096)):
                pass
    except OSError:
        pass
    for act in (lambda: store.seal(staged, draft()), lambda: store.promote(two.id)):
        try:
            act()
        except ReleaseError as error:
            messages.append(str(error))
    listed = [manifest.id for manifest in store.list().releases]
    served = store.channel().release
    filler.unlink()
    three = store.seal(staged, draft())
print(json.dumps({
    "messages": messages, "listed": sorted(listed), "sealed": sorted([one.id, two.id]),
    "served": served == one.id, "problems": store.list().problems,
    "later": [str(item) for item in store.verify_files(three.id)],
    "names": len(list((root / "releases").iterdir())),
}))
"""
# A disk of 2 MB in a namespace of its own: it is gone with the process, whoever runs the tests.
NAMESPACE = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
MOUNT = 'mount -t tmpfs -o size=2m none "$1" && shift && exec "$@"'


def can_mount() -> bool:
    probe = [*NAMESPACE, MOUNT, "sh", "/mnt", "true"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


# Where no namespace may be made, the limit on file size above stands for the full disk.
if can_mount():

    def test_full_disk(tmp_path: Path) -> None:
        command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
        result = subprocess.run(
            [*NAMESPACE, MOUNT, "sh", str(tmp_path), *command],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        found = json.loads(result.stdout)
        exporting, sealing, promoting = found["messages"]
        assert f"no space for the release in {tmp_path}/releases" in exporting
        assert "it needs more than" in exporting
        assert "No space left on device" in sealing
        assert "0 B were left" in sealing
        assert "still says what it did" in promoting
        assert found["listed"] == found["sealed"]
        assert found["served"]
        assert found["problems"] == []
        assert found["later"] == []
        assert found["names"] == 3
