"""Shared memory between the replica and its decoder processes.

A slot has space for one image in two forms: encoded, as received, and as the model's input, which for most models are
uint8 pixels. No image passes through a pipe: a pipe holds 64 KB, so a photograph would block its sender until the
reader reads.

The mapping is a memfd: it has no name, so nothing is left in /dev/shm however its processes end, and the limit of 64 MB
that containers set for /dev/shm does not apply. The mapping is sparse: `MAX_ENCODED_BYTES` a slot are address space,
not memory. Its size is sealed: a worker that shrank it would end the replica by SIGBUS. Any worker can change its
content: the replica does not trust values that it reads there, and bounds them.
"""

import enum
import fcntl
import mmap
import os
from collections.abc import Callable
from multiprocessing.reduction import DupFd
from typing import Any, Final
from weakref import finalize

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.bounds import MAX_ENCODED_BYTES
from pipeline.input_spec import InputSpec
from pipeline.records import Bytes

MAX_KEPT_BYTES = 256 << 20
"""Memory that all slots together keep for the next encoded images; memory beyond that is returned to the system."""

_MEMFD_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Claim(enum.IntEnum):
    """Progress of a worker with an image, kept in shared memory so that it survives the worker."""

    WAITING = 0
    STARTED = 1
    DECODED = 2
    REJECTED = 3
    SKIPPED = 4  # not decoded, as the image had been withdrawn


class Slots:
    """A number of slots in one shared mapping, and the list of those that are free.

    An object pickled to a worker uses the same memory there. Only the process that created it takes and frees slots.

    Args:
        count: number of slots.
        spec: shape and number format of the model's input for one image.
        fd: descriptor of an existing mapping of the same count and spec.

    Attributes:
        tensor: inputs of all slots, [count, *spec.shape] of spec.dtype, to be page-locked by CUDA.
        pixels: the same memory in numpy: uint8 [count, *spec.shape]; for other formats the bytes, uint8 [count, bytes].
    """

    def __init__(self, count: int, spec: InputSpec, *, fd: int = -1) -> None:
        self.count, self.spec = count, spec
        ledger_bytes = _whole_pages(count * 38)
        self._encoded_from = ledger_bytes + _whole_pages(count * spec.nbytes)
        size = self._encoded_from + count * MAX_ENCODED_BYTES
        self._fd = fd if fd >= 0 else _sealed_memory(size)
        finalize(self, os.close, self._fd).atexit = False  # open, it would keep the memory after the mapping
        self._map = mmap.mmap(self._fd, size)
        self.started_ns = np.frombuffer(self._map, np.int64, count)  # int64 [count], by `time.monotonic_ns`
        self.decode_ns = np.frombuffer(self._map, np.int64, count, offset=count * 8)  # int64 [count], duration
        # int64 [count], the part of the duration that a transform of the user's own took
        self.transform_ns = np.frombuffer(self._map, np.int64, count, offset=count * 16)
        shapes: NDArray[np.int32] = np.frombuffer(self._map, np.int32, count * 3, offset=count * 24)
        self.shapes = shapes.reshape(count, 3)  # int32 [count, 3]: width, height, EXIF orientation, as sent
        self.claims = np.frombuffer(self._map, np.uint8, count, offset=count * 36)  # uint8 [count], of `Claim`
        self.withdrawn = np.frombuffer(self._map, np.uint8, count, offset=count * 37)  # uint8 [count], 1: to be skipped
        flat: NDArray[np.uint8] = np.frombuffer(self._map, np.uint8, count * spec.nbytes, offset=ledger_bytes)
        self.pixels = flat.reshape(count, *(spec.shape if spec.dtype == torch.uint8 else (spec.nbytes,)))
        self.tensor = torch.from_numpy(flat).view(spec.dtype).reshape(count, *spec.shape)
        self._free = bytearray(b"\1" * count)
        self._kept = [0] * count  # bytes of memory that encoded images have left in each slot
        self._kept_bytes = 0  # in all slots together

    def __reduce__(self) -> tuple[Callable[..., "Slots"], tuple[Any, ...]]:
        """Pass the mapping on to a process that is being started."""
        return _attach, (DupFd(self._fd), self.count, self.spec)

    def take(self, wanted: int) -> tuple[int, int]:
        """Take up to `wanted` adjacent slots; return the number of the first, and how many (0 if none is free)."""
        while wanted:
            first = self._free.find(b"\1" * wanted)
            if first >= 0:
                self._free[first : first + wanted] = bytes(wanted)
                self.claims[first : first + wanted] = Claim.WAITING
                self.withdrawn[first : first + wanted] = 0
                return first, wanted
            wanted //= 2
        return 0, 0

    def release(self, first: int, count: int) -> None:
        """Free slots taken before."""
        self._free[first : first + count] = b"\1" * count

    @property
    def free(self) -> int:
        """Number of free slots."""
        return self._free.count(1)

    def write_encoded(self, slot: int, *pieces: Bytes) -> None:
        """Copy one encoded image into a slot, piece by piece."""
        start = self._encoded_from + slot * MAX_ENCODED_BYTES
        for piece in pieces:
            self._map[start : start + len(piece)] = piece
            start += len(piece)

    def write_input(self, slot: int, made: NDArray[Any] | torch.Tensor) -> None:
        """Copy a model's input into a slot. One that is smaller than the slot fills its first bytes."""
        if isinstance(made, torch.Tensor):
            self.tensor[slot] = made
        elif made.shape == self.spec.shape and made.dtype == self.pixels.dtype:
            self.pixels[slot] = made
        else:
            flat = np.ascontiguousarray(made).reshape(-1).view(np.uint8)
            self.pixels[slot].reshape(-1)[: flat.size] = flat

    def read_encoded(self, slot: int, size: int) -> memoryview:
        """Return a view of an encoded image of `size` bytes."""
        start = self._encoded_from + slot * MAX_ENCODED_BYTES
        return memoryview(self._map)[start : start + size]

    def trim_encoded(self, slot: int, size: int) -> None:
        """Keep the memory of an encoded image of `size` bytes for the next one, or free it if too much is kept."""
        more = max(0, size - self._kept[slot])
        self._kept[slot] += more
        self._kept_bytes += more
        if self._kept_bytes > MAX_KEPT_BYTES:
            start = self._encoded_from + slot * MAX_ENCODED_BYTES
            self._map.madvise(mmap.MADV_REMOVE, start, _whole_pages(self._kept[slot]))
            self._kept_bytes -= self._kept[slot]
            self._kept[slot] = 0


def _attach(fd: Any, count: int, spec: InputSpec) -> Slots:
    return Slots(count, spec, fd=fd.detach())


def _sealed_memory(size: int) -> int:
    fd = os.memfd_create("darkroom", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _MEMFD_SEALS)
    return fd


def _whole_pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
