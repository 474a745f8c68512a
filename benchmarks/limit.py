"""Upper limit of all benchmarks: the rate at which all cores of the machine decode images and do nothing else."""

import multiprocessing
import os
from collections.abc import Sequence
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Final, Self

import torch

from harness.timing import done_per_s
from pipeline.decode.memory import keep_freed_memory
from pipeline.images.decode import decode
from pipeline.live_limits import Limits
from pipeline.records import Transform

TRANSFORM: Final = Transform(256, 224, "bilinear", "fast", ("JPEG", "PNG", "WEBP"))
"""The transform of mobilenet_v2's first weights, as shipped."""


class Limit:
    """One process a core, each running only Darkroom's transform; a context manager."""

    def __init__(self) -> None:
        context, self._pipes, self._processes = multiprocessing.get_context("spawn"), list[Connection](), []
        for _ in range(len(os.sched_getaffinity(0))):
            ours, theirs = context.Pipe()
            process = context.Process(target=_transform, args=(theirs,), daemon=True)
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join()

    def per_s(self, images: Sequence[bytes], *, for_s: float, clients: int) -> float:
        """Measure images a second on all cores together, or on one core for each client if there are fewer clients."""
        pipes = self._pipes[:clients]
        for pipe in pipes:
            pipe.send((images, for_s))
        return float(sum(pipe.recv() for pipe in pipes))


def _transform(pipe: Connection) -> None:
    keep_freed_memory()
    torch.set_num_threads(1)  # as DataLoader does in its workers
    most = Limits().max_image_pixels
    while True:
        try:
            images, for_s = pipe.recv()
        except EOFError:
            return
        decode(memoryview(images[0]), TRANSFORM, most)
        pipe.send(done_per_s(lambda data: decode(memoryview(data), TRANSFORM, most), images, for_s))
