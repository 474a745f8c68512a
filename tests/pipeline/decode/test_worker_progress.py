"""Tests of the progress that a worker's claims show."""

import time
from collections import deque
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.decode.slots import Claim, Slots
from pipeline.decode.worker_process import DecodeChunk, WorkerProcess
from pipeline.decode.worker_progress import in_work, spent_s
from pipeline.records import EncodedImage
from pipeline.task import Request

IMAGES = 3


class RacingSlots:
    """The ledger of slots, and a worker that begins their second image once an array has been read so many times.

    Args:
        reads: number of reads before the worker begins.
    """

    def __init__(self, reads: int) -> None:
        self._reads = reads
        self._started_ns = np.zeros(IMAGES, np.int64)  # of the images that had the slots before
        self._decode_ns = np.zeros(IMAGES, np.int64)
        self._claims = np.array([Claim.DECODED, Claim.WAITING, Claim.WAITING], np.uint8)

    def _read(self, array: NDArray[Any]) -> NDArray[Any]:
        seen = array.copy()
        self._reads -= 1
        if self._reads == 0:
            self._started_ns[1] = time.monotonic_ns()
            self._claims[1] = Claim.STARTED
        return seen

    @property
    def claims(self) -> NDArray[np.uint8]:
        """Claims of the images."""
        return self._read(self._claims)

    @property
    def started_ns(self) -> NDArray[np.int64]:
        """Start times."""
        return self._read(self._started_ns)

    @property
    def decode_ns(self) -> NDArray[np.int64]:
        """Durations."""
        return self._read(self._decode_ns)


@pytest.mark.parametrize("reads", [1, 2, 3, 4])
def test_an_image_that_is_begun_while_the_ledger_is_read_has_just_begun(reads: int) -> None:
    """A slot still holds the start time of the image before; no new image is taken to have been begun then."""
    tasks = Request([EncodedImage(b"image")] * IMAGES).tasks
    chunk = DecodeChunk(0, tasks, 1, 1.0, 1.0)
    worker = cast(WorkerProcess, SimpleNamespace(chunks=deque([chunk]), oldest_chunk_since_ns=time.monotonic_ns()))
    slots = cast(Slots, RacingSlots(reads))
    assert in_work(worker, slots).for_s < 5
    slots = cast(Slots, RacingSlots(reads))
    assert spent_s(chunk, slots) < 5
