"""Test of the forkserver, the process that workers are forked from."""

import os
import subprocess
import sys
from textwrap import dedent

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
