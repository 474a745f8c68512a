"""The model as loaded and as one graph: on one core, alone and beside a thread that keeps the interpreter busy.

`python -m benchmarks.forward [MODEL ...]` prints milliseconds an image. Turn by turn, as the speed of a machine drifts.
"""

import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import torch

from benchmarks import table
from pipeline.config import PipelineConfig
from pipeline.frozen import Compute, frozen
from pipeline.model import load_model

BATCHES: Final = (1, 2, 4, 8)
TURNS: Final = 5
BUSY: Final = 0.25
"""The share of the interpreter that the other thread takes: the event loop of a replica that refuses much."""

HEADER: Final = ("model", "images", "as loaded", "as a graph", "as loaded, beside", "as a graph, beside", "quicker")


@contextmanager
def busy() -> Iterator[None]:
    """While the block runs, another thread computes in Python for a quarter of the time."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.01 * (1 - BUSY)):
            until = time.perf_counter() + 0.01 * BUSY
            while time.perf_counter() < until:
                pass

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def ms_an_image(compute: Compute, pixels: torch.Tensor) -> float:
    """The median of three, after one that does not count."""
    taken_s = []
    with torch.inference_mode():
        for _ in range(4):
            started_at = time.perf_counter()
            compute(pixels)
            taken_s.append(time.perf_counter() - started_at)
    return 1000 * statistics.median(taken_s[1:]) / len(pixels)


def row(model: str, ways: Sequence[Compute], side_px: int, images: int) -> list[str]:
    """One of the table's rows: medians over the turns."""
    pixels = torch.randint(256, (images, side_px, side_px, 3), dtype=torch.uint8)
    quiet: list[list[float]] = [[] for _ in ways]
    beside: list[list[float]] = [[] for _ in ways]
    for _ in range(TURNS):
        for way, alone, together in zip(ways, quiet, beside, strict=True):
            alone.append(ms_an_image(way, pixels))
            with busy():
                together.append(ms_an_image(way, pixels))
    middle: Callable[[list[float]], float] = statistics.median
    figures = [middle(taken) for taken in (*quiet, *beside)]
    gains = f"{figures[0] / figures[1]:.1f} x, beside {figures[2] / figures[3]:.1f} x"
    return [model, str(images), *(f"{figure:.1f}" for figure in figures), gains]


def main(models: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    sys.setswitchinterval(0.0005)  # as in a replica
    torch.set_num_threads(1)
    rows = []
    for model in models or ["mobilenet_v2"]:
        loaded = load_model(PipelineConfig(model=model))
        side_px = loaded.transform.crop_px
        ways = (loaded.classifier, frozen(loaded.classifier, side_px))
        rows += [row(model, ways, side_px, images) for images in BATCHES]
    sys.stdout.write(table.text(HEADER, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
