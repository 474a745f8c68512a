"""The memory of a worker process: freed memory kept for the next image, and the limit for one image."""

import ctypes
import os
import resource
from pathlib import Path
from typing import Final

from pipeline.bounds import KEPT_FREED_BYTES, decode_memory_bytes

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_PAGE_BYTES: Final = resource.getpagesize()


def keep_freed_memory() -> None:
    """Set malloc to keep freed blocks of the size of an image.

    By default malloc maps and unmaps each of them: 568 page faults an image, 3.6 ms instead of 2.5 ms (glibc's dynamic
    threshold starts at 128 KiB and only grows with the blocks that are freed; mallopt(3)).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not in musl
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        mallopt(_M_TRIM_THRESHOLD, 256 << 20)


class FreedMemory:
    """Returns freed memory of a large image to the kernel, if it is more than the next images are likely to need.

    Of the blocks below its threshold malloc itself returns only those at the end of its heap: a worker kept 1,066 MB.
    `malloc_trim` returns all of them, but takes 0.3 ms if there are none, and 1.2 microseconds for each page, so it is
    not called after every image. In musl, which has no `malloc_trim`, memory is not returned.
    """

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._pages = open("/proc/self/statm", "rb", buffering=0)  # noqa: SIM115 - for the life of the process
        self._most_bytes = self._own_bytes() + KEPT_FREED_BYTES

    def give_back(self) -> None:
        """Return freed memory to the kernel if this process has much. Takes some microseconds if it has little."""
        if self._trim is not None and self._own_bytes() > self._most_bytes:
            self._trim(0)
            self._most_bytes = max(self._most_bytes, self._own_bytes() + KEPT_FREED_BYTES)  # the rest is in use

    def _own_bytes(self) -> int:
        """Return the resident memory that is neither mapped from a file nor shared, in bytes (proc_pid_statm(5))."""
        _, resident, shared, *_ = os.pread(self._pages.fileno(), 128, 0).split()
        return (int(resident) - int(shared)) * _PAGE_BYTES


class MemoryLimit:
    """Limits the memory that this process may allocate in addition to its present memory.

    The limit is RLIMIT_DATA, which counts private memory alone: the shared slots are gigabytes of address space, so
    RLIMIT_AS could not tell them from a decoder that allocates too much. Beyond the limit an allocation fails in this
    process, as a MemoryError or as an error of the decoder, and does not invoke the kernel's OOM killer.
    """

    def __init__(self) -> None:
        self._base_bytes = _data_bytes()
        self._max_pixels = -1

    def fit(self, max_pixels: int) -> None:
        """Set the limit for images of at most `max_pixels`. Cheap if the value has not changed."""
        if max_pixels == self._max_pixels:
            return
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        soft = self._base_bytes + decode_memory_bytes(max_pixels)
        resource.setrlimit(resource.RLIMIT_DATA, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
        self._max_pixels = max_pixels


def _data_bytes() -> int:
    """Return the memory that counts against RLIMIT_DATA, in bytes (proc_pid_status(5), VmData)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmData:")[2].split()[0]) << 10
