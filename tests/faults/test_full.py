"""Tests of full file systems: a start reports them, and a running service goes on.

The file systems are small test ones.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import yaml

from deployments.local.disk_space import NEEDED_DISK_BYTES
from harness.local_service import shipped_config
from harness.photographs import jpeg, photograph
from harness.ports import free_port
from harness.repository import ROOT
from tests.support.running_service import Service, is_decoder, running
from tests.support.waiting import until

pytestmark = pytest.mark.slow

CAT = jpeg(photograph("cat"))
TMP, SHM = "/tmp", "/dev/shm"  # noqa: S108  mounted by the test itself
ROOM_MIB = 2 * NEEDED_DISK_BYTES >> 20

_MOUNTS = """
mount --bind "$1" /mnt && mount -t tmpfs -o size=$2m tmpfs /tmp && mkdir -p "$1" && mount --bind /mnt "$1" &&
mount -t tmpfs -o size=$2m tmpfs /dev/shm && shift 2 && exec "$@"
"""
"""Mounts small file systems over /tmp, except for one folder, and over /dev/shm, and runs a command there."""


def small(folder: Path) -> list[str]:
    """Return the prefix of a command that gives it a small /tmp, which shows this folder, and a small /dev/shm."""
    unshare = ["unshare", "--mount", "--propagation", "private"]
    return [*unshare, "sh", "-c", _MOUNTS, "sh", str(folder), str(ROOM_MIB)]


@pytest.fixture(autouse=True, scope="module")
def may_mount(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip the test if this user may not mount."""
    command = [*small(tmp_path_factory.mktemp("mounts")), "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"file systems of a test's own cannot be mounted here: {done.stderr.strip()}")


def fill(path: Path) -> None:
    """Write until the file system is full."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(b"\0" * (1 << 16)):
            pass


def test_a_start_without_room_says_so(tmp_path: Path) -> None:
    """A start on a full file system ends at once with one sentence, and leaves no process behind."""
    config = shipped_config()
    config["http_options"]["port"] = free_port()
    (tmp_path / "serve_config.yaml").write_text(yaml.safe_dump(config))
    filling = ["sh", "-c", 'dd if=/dev/zero of=/tmp/fill 2>/dev/null; exec "$@"', "sh"]
    command = [*small(tmp_path), *filling, sys.executable, "-m", "deployments.local.launcher", "serve_config.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("darkroom: /tmp has 0 MiB free, and a run needs")


@contextmanager
def full(service: Service, place: str) -> Iterator[None]:
    """Keep a file system full while the block runs."""
    (replica,) = service.replicas()
    path = Path(f"/proc/{replica.pid}/root{place}/fill")
    fill(path)
    yield
    path.unlink()


def workers(service: Service) -> list[psutil.Process]:
    """Return the decoder processes, without the forkserver."""
    found = {process.pid: process for process in service.processes() if is_decoder(process)}
    return [process for process in found.values() if process.ppid() in found]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Return a service with a small /tmp and /dev/shm, which tests fill and empty. It must end in order."""
    folder = tmp_path_factory.mktemp("full")
    with running(folder, shipped_config(), *small(folder)) as service:
        yield service


@pytest.mark.parametrize("place", [TMP, SHM])
def test_a_service_goes_on_where_nothing_can_be_written(service: Service, place: str) -> None:
    """A service goes on with full file systems, although logs cannot be written. A killed worker is still replaced."""
    with full(service, place):
        for _ in range(30):
            assert service.post(CAT).status_code == 200
            assert service.post(b"no image").status_code == 415
        before = workers(service)
        before[0].send_signal(signal.SIGKILL)
        until(lambda: len(now := workers(service)) == len(before) and before[0] not in now)
        assert service.post(CAT).status_code == 200
    assert service.post(CAT).status_code == 200
