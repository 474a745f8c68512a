"""Tests of an engine in a user's script: it runs once and ends by itself.

tests/end_to_end/test_lifecycle.py kills a process with an engine.
"""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from textwrap import dedent

import pytest

from harness.photographs import jpeg, photograph
from tests.support.waiting import PATIENCE_S

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
    """Return a user's program without `if __name__ == "__main__"`."""
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
