"""Tests of the forkserver, the process that workers are forked from."""

import os
import subprocess
import sys
from textwrap import dedent

import pytest

PROGRAM = dedent(
    """
    import os
    from pathlib import Path

    import psutil

    from pipeline.decode.forkserver import start_forkserver

    start_forkserver()
    for child in psutil.Process().children():
        print("whisper" in Path(f"/proc/{child.pid}/environ").read_text(), "plain" in child.environ().values())
    print(os.environ["RAY_AUTH_TOKEN"], os.environ["DARKROOM_API_KEYS"])
    """
)


def test_it_gets_no_secrets() -> None:
    """The forkserver gets no secrets from the environment, because workers inherit its memory.

    The process that starts it keeps them.
    """
    secrets = {"RAY_AUTH_TOKEN": "whisper-1", "DARKROOM_API_KEYS": "whisper-2", "AWS_SECRET_ACCESS_KEY": "whisper-3"}
    environment = {**os.environ, **secrets, "DARKROOM_TEST_WORD": "plain"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["False True", "False True", "whisper-1 whisper-2"]  # and the resource tracker


EXITING = dedent(
    """
    import os
    import signal
    import time
    from multiprocessing import util

    import psutil

    from pipeline.decode.forkserver import forkserver_pid, look_after_forkserver, start_forkserver

    def children():
        return [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]

    def look():
        look_after_forkserver()  # as the thread that supervises workers may do at any moment
        try:
            start_forkserver()  # as the start of another worker does
        except OSError as error:
            print(error)
        deadline = time.monotonic() + 20
        while children() and time.monotonic() < deadline:
            time.sleep(0.01)
        print(children())

    start_forkserver()
    print(len(children()))
    if KILLED_BEFORE:
        os.kill(forkserver_pid(), signal.SIGKILL)
    util.Finalize(None, look, exitpriority=-1000)
    """
)


@pytest.mark.parametrize("killed_before", [False, True])
def test_it_ends_before_the_process_that_started_it(killed_before: bool) -> None:
    """A process that exits has no child left, and starts none again.

    A worker of Ray's ends only when nobody holds its output pipes any more, as its children do.
    """
    program = EXITING.replace("KILLED_BEFORE", str(killed_before))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["2", "this process is exiting, and starts no forkserver any more", "[]"]
    assert not done.stderr
