"""The memory of a worker process: what it keeps from one image to the next, and the most it may take for one."""

import ctypes
import os
import resource
from pathlib import Path
from typing import Final

from pipeline.config import KEPT_FREED_BYTES, decode_memory_bytes

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_PAGE_BYTES: Final = resource.getpagesize()


def keep_freed_memory() -> None:
    """Has malloc keep image-sized blocks.

    Left alone it maps and unmaps them one by one: 568 page faults an image, 3.6 ms instead of 2.5 (glibc's dynamic
    threshold starts at 128 KiB and grows only by what has been freed; mallopt(3)).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not in musl
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        mallopt(_M_TRIM_THRESHOLD, 256 << 20)


class FreedMemory:
    """Gives back to the kernel what a large image has left, where that is more than the next images may want.

    Of the blocks below its threshold malloc gives back only those at the end of its heap: a worker kept 1,066 MB. To
    give back everything takes 0.3 ms where there is nothing, and 1.2 microseconds for each page, so it is not done
    after every image. In musl, which has no `malloc_trim`, it is not done at all.
    """

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._pages = open("/proc/self/statm", "rb", buffering=0)  # noqa: SIM115 - for the life of the process
        self._most_bytes = self._own_bytes() + KEPT_FREED_BYTES

    def give_back(self) -> None:
        """Looks at how much this process has, and acts where that is much. Takes some microseconds where it is not."""
        if self._trim is not None and self._own_bytes() > self._most_bytes:
            self._trim(0)
            self._most_bytes = max(self._most_bytes, self._own_bytes() + KEPT_FREED_BYTES)  # it needs what is left

    def _own_bytes(self) -> int:
        """Resident memory that is no file's and not shared (proc_pid_statm(5))."""
        _, resident, shared, *_ = os.pread(self._pages.fileno(), 128, 0).split()
        return (int(resident) - int(shared)) * _PAGE_BYTES


class MemoryLimit:
    """Bounds what this process takes beyond what it has now.

    By RLIMIT_DATA, which counts private memory alone: the shared slots are gigabytes of address space, so RLIMIT_AS
    could not tell them from a decoder that runs away. Beyond the limit an allocation fails in that process, as
    MemoryError or as an error of the decoder's, instead of waking the kernel's killer.
    """

    def __init__(self) -> None:
        self._base_bytes = _data_bytes()
        self._max_pixels = -1

    def fit(self, max_pixels: int) -> None:
        """Allows what decoding an image of that many pixels takes. Cheap where nothing has changed."""
        if max_pixels == self._max_pixels:
            return
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        soft = self._base_bytes + decode_memory_bytes(max_pixels)
        resource.setrlimit(resource.RLIMIT_DATA, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
        self._max_pixels = max_pixels


def _data_bytes() -> int:
    """What the kernel counts against RLIMIT_DATA (proc_pid_status(5), VmData)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmData:")[2].split()[0]) << 10
