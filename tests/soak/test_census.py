"""Tests of readings of processes. All of them are real."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from deployments.local.machine import name_run
from harness.roles import FORKSERVER, TRACKER, WORKER
from tests.soak.census import take_census
from tests.soak.soaking import MIB
from tests.support.waiting import until

FAMILY = """
import mmap, multiprocessing, os, sys, threading

def work(pipe):
    files = [open(os.devnull) for _ in range(40)]
    shared = mmap.mmap(-1, 32 << 20, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
    shared[:] = bytes(len(shared))
    private = mmap.mmap(-1, 64 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    private[:] = b"x" * len(private)
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    pipe.send("ready")
    pipe.recv()

if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    lock, (here, there) = context.Lock(), context.Pipe()
    child = context.Process(target=work, args=(there,), daemon=True)
    child.start()
    there.close()  # so that the child's death is an end of the pipe
    print(here.recv(), child.pid, flush=True)
    sys.stdin.read()
"""


@contextmanager
def _family(folder: Any, run: str) -> Iterator[tuple[int, int]]:
    """Start a process with a forkserver, a resource tracker and a worker that holds something.

    Yields its pid and the worker's.
    """
    program = folder / "family.py"
    program.write_text(FAMILY)
    with subprocess.Popen(
        [sys.executable, str(program)],
        env={**os.environ, "DARKROOM_RUN": run},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        _, worker = process.stdout.readline().split()
        yield process.pid, int(worker)


def test_a_census_finds_and_measures_every_process(tmp_path: Any) -> None:
    """A census finds every process by the run's mark, the forkserver's children too, with its role and its figures."""
    run = name_run()  # its launcher is this process, so no other test takes it for an orphan
    with _family(tmp_path, run) as (parent, worker):
        census = {reading.pid: reading for reading in take_census(run, os.getpid(), 7.0, time.time())}
    roles = Counter(reading.role for pid, reading in census.items() if pid not in (os.getpid(), parent))
    assert roles == {FORKSERVER: 1, WORKER: 1, TRACKER: 1}
    held = census[worker]
    (bare,) = [reading for reading in census.values() if reading.role == FORKSERVER]
    assert held.at_s == 7.0
    assert 0 <= held.age_s < 600
    assert held.threads >= 2
    assert held.fds >= 40 > bare.fds
    assert 64 * MIB > held.shared_bytes >= 32 * MIB > bare.shared_bytes
    assert 64 * MIB <= held.private_bytes - bare.private_bytes < 96 * MIB
    assert parent in census


def test_a_process_that_has_ended_is_left_out(tmp_path: Any) -> None:
    run = name_run()
    with _family(tmp_path, run):
        pass
    until(lambda: [reading.pid for reading in take_census(run, os.getpid(), 0.0, time.time())] == [os.getpid()])
