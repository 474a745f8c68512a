"""Decoded images that wait for the device, and who waits for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch

from pipeline.host_batch import HostBatch
from pipeline.task import Task


@dataclass(frozen=True, slots=True)
class Decoded:
    """`tasks[n]` belongs to `batch.pixels[n]`."""

    batch: HostBatch
    tasks: list[Task]

    def singles(self) -> list[Self]:
        """The same images one by one."""
        rows = (
            (HostBatch(self.batch.first + n, self.batch.pixels[n : n + 1]), task) for n, task in enumerate(self.tasks)
        )
        return [type(self)(batch, [task]) for batch, task in rows]

    def blackened(self) -> Self:
        """Black images in their place."""
        return type(self)(HostBatch(self.batch.first, torch.zeros_like(self.batch.pixels)), self.tasks)


def count(work: Sequence[Decoded]) -> int:
    """How many images."""
    return sum(len(decoded.batch) for decoded in work)


def joined(work: Sequence[Decoded]) -> list[HostBatch]:
    """The pixels in as few pieces as the slots allow: each piece costs one copy."""
    pieces = [work[0].batch]
    for decoded in work[1:]:
        if pieces[-1].adjoins(decoded.batch):
            pieces[-1] = pieces[-1].joined(decoded.batch)
        else:
            pieces.append(decoded.batch)
    return pieces
