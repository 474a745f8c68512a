"""What worker processes leave behind, and what is done about it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.worker_process import _pid_namespace, remove_orphaned_semaphores

SHM = Path("/dev/shm")  # noqa: S108 - where glibc keeps semaphores


@pytest.fixture
def ended_pid() -> int:
    """The id of a process that has been there, and is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def orphan(ended_pid: int) -> Iterator[Path]:
    """A semaphore of that process."""
    path = SHM / f"sem.darkroom-{ended_pid}-{_pid_namespace()}-test"
    path.touch()
    yield path
    path.unlink(missing_ok=True)


def test_only_orphans_are_removed(orphan: Path) -> None:
    """Those of a process that lives are in use; those of other programs and of other containers are none of ours."""
    ours = SHM / f"sem.darkroom-{os.getpid()}-{_pid_namespace()}-test"
    foreign, elsewhere = orphan.with_name("sem.lightroom-1-test"), orphan.with_name(f"{orphan.name[:-5]}1-test")
    others = (ours, foreign, elsewhere)
    try:
        for path in others:
            path.touch()
        remove_orphaned_semaphores()
        assert [path.exists() for path in (orphan, *others)] == [False, True, True, True]
    finally:
        for path in others:
            path.unlink(missing_ok=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as two users")
@pytest.mark.usefixtures("orphan")
def test_orphans_of_another_user_are_passed_over() -> None:
    """Their directory is sticky: a start must not fail for what it may not remove."""
    os.seteuid(65534)
    try:
        remove_orphaned_semaphores()
    finally:
        os.seteuid(0)
