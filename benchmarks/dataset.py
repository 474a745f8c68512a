"""Compares examples/label_dataset.py with engines alone, on this machine. `python -m benchmarks.dataset`.

Each engine has one worker, a spare one, and one batch at a time. Ray Data labels a folder of copies of small
photographs, once all of them and once a third; the difference leaves out its start and the starts of its engines. The
same engines alone, each in a process of its own, work through the same photographs for as long. Both take turns.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

from benchmarks.work import SMALL
from examples.label_dataset import CONFIG, CORES, IMAGES_PER_CALL
from harness.circumstances import circumstances
from harness.command import Facts, parser_of, publish, run, say
from harness.repository import ROOT
from harness.throughput import throughput, without_gc
from pipeline.engine import Engine

ENGINES: Final = (1, 2)
IMAGES: Final = 12 * IMAGES_PER_CALL
FEW_IMAGES: Final = IMAGES // 3
"""Images of the short run: whole calls too, as a call that is not full takes nearly as long as a full one."""

ROUNDS: Final = 3
HEADER: Final = ("engines", "Ray Data, images/s", "engines alone, images/s", "share")


def alone_per_s(engines: int, for_s: float) -> float:
    """Return the images a second of that many engines together, each in its own process."""
    with ProcessPoolExecutor(engines, mp_context=get_context("spawn")) as pool:
        return sum(pool.map(_engine_per_s, [for_s] * engines))


def _engine_per_s(for_s: float) -> float:
    with Engine(CONFIG) as engine, without_gc():
        return throughput(engine, SMALL.images, for_s).per_s


def ray_data_per_s(engines: int, folder: Path) -> float:
    """Return the images a second of Ray Data, without its start."""
    took_s = _labelling_s(engines, IMAGES, folder) - _labelling_s(engines, FEW_IMAGES, folder)
    return (IMAGES - FEW_IMAGES) / took_s


def _labelling_s(engines: int, images: int, folder: Path) -> float:
    """Return the seconds in which a new process labels this many images, its start included."""
    source, labels = folder / f"photographs-{images}", folder / "labels"
    if not source.exists():
        source.mkdir()
        for number in range(images):
            (source / f"{number}.jpg").write_bytes(SMALL.images[number % len(SMALL.images)])
    began_at = time.monotonic()
    program = (
        f"import ray; ray.init(num_cpus={CORES * engines + 1}, include_dashboard=False); "
        f"from examples.label_dataset import label; label({str(source)!r}, {str(labels)!r}, None, {engines})"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    took_s, rows = time.monotonic() - began_at, pq.read_table(labels)
    shutil.rmtree(labels)
    if len(rows) != images or rows["error"].null_count != images:
        raise RuntimeError(f"of {images} images, {rows['error'].null_count} of {len(rows)} rows are labelled")
    return took_s


def row(record: Facts) -> list[str]:
    """Format a row of the table."""
    return [
        str(record["engines"]),
        f"{record['ray_data_per_s']:.1f}",
        f"{record['alone_per_s']:.1f}",
        f"{record['share']:.2f}",
    ]


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status."""
    parser_of("benchmarks.dataset", __doc__).parse_args(arguments)
    about, records = circumstances("benchmarks.dataset", arguments), list[Facts]()
    with tempfile.TemporaryDirectory(prefix="darkroom-") as folder:
        for engines in ENGINES:
            rounds = []
            for _ in range(ROUNDS):
                together = ray_data_per_s(engines, Path(folder))
                rounds.append((together, alone_per_s(engines, (IMAGES - FEW_IMAGES) / together)))
            records.append(
                {
                    "engines": engines,
                    "ray_data_per_s": statistics.median(together for together, _ in rounds),
                    "alone_per_s": statistics.median(alone for _, alone in rounds),
                    "share": statistics.median(together / alone for together, alone in rounds),
                    "rounds": rounds,
                }
            )
            say("  ".join(row(records[-1])))
    publish("dataset", about, records, HEADER, [row(record) for record in records])
    return 0


if __name__ == "__main__":
    run(main)
