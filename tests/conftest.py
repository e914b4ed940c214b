"""Fixtures that several parts' tests use."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose channel `stable` names the tiny release; made once, in about 15 s."""
    from tests.release_fixture import build_release

    root = tmp_path_factory.mktemp("tiny") / "models"
    build_release(root)
    return root
