"""Fixture that tests with imitated machines share."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.repository import ROOT


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """Return a folder that all imitated machines see; each has a /tmp of its own."""
    cache = ROOT / ".cache"
    cache.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="shared-") as folder:
        yield Path(folder)
