"""The odd files of Pillow's own tests, out of its source distribution, which `make` has fetched."""

import os
import tarfile
from pathlib import Path

import pytest


def odd_files() -> dict[str, bytes]:
    """The files by name; skips the test where there are none."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    archive = Path(cache, "darkroom", "pillow-13.0.0.tar.gz")
    if not archive.exists():
        pytest.skip(f"Pillow's source distribution is not at {archive}; `make test` fetches it")
    with tarfile.open(archive) as opened:
        members = [member for member in opened if member.isfile() and "/Tests/images/" in member.name]
        files = ((member.name.partition("/Tests/images/")[2], opened.extractfile(member)) for member in members)
        return {name: file.read() for name, file in files if file is not None}
