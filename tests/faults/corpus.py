"""The odd files of Pillow's own tests, out of its source distribution on the Python package index."""

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

REQUIREMENT = Path(__file__).with_name("corpus.txt")
DOWNLOAD_TIMEOUT_S = 240.0


def odd_files() -> dict[str, bytes]:
    """The files by name; skips the test where they are neither in the cache nor to be had."""
    with tarfile.open(_archive()) as archive:
        members = [member for member in archive if member.isfile() and "/Tests/images/" in member.name]
        files = ((member.name.partition("/Tests/images/")[2], archive.extractfile(member)) for member in members)
        return {name: file.read() for name, file in files if file is not None}


def _archive() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "darkroom")
    cache.mkdir(parents=True, exist_ok=True)
    if found := [*cache.glob("pillow-13.0.0.tar.gz")]:
        return found[0]
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        command += ["--require-hashes", "--dest", scratch, "--requirement", str(REQUIREMENT)]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=DOWNLOAD_TIMEOUT_S)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            pytest.skip(f"Pillow's source distribution is not to be had: {error}")
        (archive,) = Path(scratch).glob("*.tar.gz")
        return archive.rename(cache / archive.name)
