"""Tests of an engine in a user's script: it runs once, and leaves no process behind however it ends."""

import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from textwrap import dedent

import psutil
import pytest

from harness.photographs import jpeg, photograph
from tests.support.waiting import PATIENCE_S, until

PROGRAM = dedent(
    """
    import sys
    from pathlib import Path
    from pipeline.config import PipelineConfig
    from pipeline.live_limits import Limits
    from pipeline.engine import Engine

    config = PipelineConfig(
        device="cpu", runtime="torch", decode_workers=2, concurrent_batches=1, batch_sizes=(1, 2), slots=8
    )
    engine = Engine(config, Limits(max_batch_size=2))
    print(engine.infer([Path(path).read_bytes() for path in sys.argv[1:]])[0].result.labels[0], flush=True)
    """
)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A user's program without `if __name__ == "__main__"`."""
    (tmp_path / "cat.jpg").write_bytes(jpeg(photograph("cat")))
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path / "program.py"


def command(script: Path) -> list[str]:
    return [sys.executable, "-W", "error", str(script), str(script.with_name("cat.jpg"))]


def test_a_plain_script_runs_once_and_ends(script: Path) -> None:
    """A plain script, with `close` or without, runs once, prints only its own output, and leaves no process behind."""
    closing = script.with_name("closing.py")
    closing.write_text(PROGRAM + "engine.close()\n")
    with ExitStack() as stack:
        owners = [
            stack.enter_context(
                subprocess.Popen(command(each), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            )
            for each in (script, closing)
        ]
        for owner in owners:
            said, complained = owner.communicate(timeout=2 * PATIENCE_S)  # both start at once
            assert not complained
            assert owner.returncode == 0
            assert said.splitlines() == ["Egyptian cat"]


def test_workers_of_a_killed_process_end(script: Path) -> None:
    """Workers of a killed process end, because their pipe is closed."""
    script.write_text(PROGRAM + "import time; print(*engine.worker_pids, flush=True); time.sleep(600)\n")
    owner = subprocess.Popen(command(script), stdout=subprocess.PIPE, text=True)
    assert owner.stdout
    with owner, owner.stdout as lines:
        lines.readline()
        workers = [psutil.Process(int(pid)) for pid in lines.readline().split()]
        assert len(workers) == 3  # with the spare worker
        owner.send_signal(signal.SIGKILL)
    until(lambda: not any(worker.is_running() for worker in workers))
