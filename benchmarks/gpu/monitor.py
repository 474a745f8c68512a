"""Records the state of the GPU during a run: a line every half second from nvidia-smi."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_QUERIED_FIELDS: Final = "timestamp,utilization.gpu,utilization.memory,memory.used,clocks.sm,power.draw,temperature.gpu"


@contextmanager
def monitored(path: Path) -> Iterator[None]:
    """Write the lines to `path` while the block runs; do nothing without nvidia-smi."""
    program = shutil.which("nvidia-smi")
    if program is None:
        yield
        return
    with path.open("wb") as sink:
        command = [program, f"--query-gpu={_QUERIED_FIELDS}", "--format=csv", "--loop-ms=500"]
        watcher = subprocess.Popen(command, stdout=sink, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            watcher.kill()
            watcher.wait()
