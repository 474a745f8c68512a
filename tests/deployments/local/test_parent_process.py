"""Tests that a process ends with its parent, however the parent ends."""

import signal
import subprocess
import sys

import psutil

from tests.support.waiting import until

CHILD = """
import os, sys, time
from deployments.local.parent_process import end_with_parent
end_with_parent(int(sys.argv[1]))
print(os.getpid(), flush=True)
time.sleep(600)
"""

PARENT = "import os, subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1], str(os.getpid())])"


def test_a_process_stops_when_its_parent_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_a_process_stops_at_once_if_its_parent_has_ended_already() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD, "1"], stderr=subprocess.DEVNULL)
    assert done.returncode == -signal.SIGINT
