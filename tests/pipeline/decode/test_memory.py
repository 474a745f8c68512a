"""Tests of the memory limit of a worker process."""

import subprocess
import sys
from textwrap import dedent

import psutil
import pytest
from PIL import Image

from harness.costly_images import COSTLY_FILES
from harness.photographs import jpeg, phone_jpeg, photograph
from pipeline.bounds import KEPT_FREED_BYTES, decode_memory_bytes
from pipeline.errors import TooMuchMemory
from pipeline.live_limits import Limits
from pipeline.records import Transform
from tests.support.decode_bench import EXACT, TRANSFORM, Bench, errors, started
from tests.support.image_files import png

CAT = jpeg(photograph("cat"))

PROGRAM = dedent(
    """
    import sys
    from pipeline.bounds import decode_memory_bytes
    from pipeline.decode.memory import MemoryLimit

    def fits(size):
        try:
            return bool(bytearray(size))
        except MemoryError:
            return False

    limit, allowed = MemoryLimit(), decode_memory_bytes(1_000_000)
    limit.fit(1_000_000)
    print(fits(allowed - (32 << 20)), fits(allowed + (1 << 20)))
    limit.fit(10_000_000)
    print(fits(allowed + (1 << 20)))
    """
)

FREED = dedent(
    """
    from pipeline.bounds import KEPT_FREED_BYTES
    from pipeline.decode.memory import FreedMemory, keep_freed_memory

    keep_freed_memory()
    freed = FreedMemory()
    before = freed._own_bytes()

    def left_of(size):
        blocks = [bytearray(b"x" * (1 << 20)) for _ in range(size >> 20)]
        end = bytearray(1000)  # behind them in the heap
        del blocks
        freed.give_back()
        return freed._own_bytes() - before >> 20

    print(left_of(KEPT_FREED_BYTES - (32 << 20)), left_of(KEPT_FREED_BYTES + (64 << 20)))
    """
)


def test_an_allocation_beyond_the_limit_fails_in_its_process() -> None:
    """An allocation above the limit raises MemoryError and does not end the process; a larger limit applies at once."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "True"]


def _limit_bytes(bench: Bench) -> int:
    (pid,) = bench.stage.pids
    soft, _ = psutil.Process(pid).rlimit(psutil.RLIMIT_DATA)
    return soft


def test_a_worker_is_limited_by_the_pixels_that_images_may_have() -> None:
    """A worker's memory limit follows from the largest image allowed, and changes with that limit while it runs."""
    with started(1) as bench:
        for max_pixels in (1_000_000, 50_000_000):
            bench.stage.limits = Limits(max_image_pixels=max_pixels)
            assert errors(bench.submit([CAT])) == [None]
            base_bytes = _limit_bytes(bench) - decode_memory_bytes(max_pixels)
            assert 0 < base_bytes < 1 << 30


def test_an_image_that_takes_too_much_memory_is_rejected_alone() -> None:
    """An image that needs too much memory is rejected.

    Its worker lives on, and its neighbours get their predictions.
    """
    with started(1) as bench:
        assert errors(bench.submit([CAT])) == [None]
        pids = bench.stage.pids
        (worker,) = (psutil.Process(pid) for pid in pids)
        had = int(dict(line.split(":") for line in _status(worker))["VmData"].split()[0]) << 10
        worker.rlimit(psutil.RLIMIT_DATA, (had + (24 << 20), psutil.RLIM_INFINITY))
        request = bench.submit([CAT, png(photograph("cat").resize((4000, 3000))), CAT, phone_jpeg(), CAT])
        assert errors(request) == [None, TooMuchMemory, None, None, None]
        assert bench.stage.pids == pids


def _status(process: psutil.Process) -> list[str]:
    with open(f"/proc/{process.pid}/status") as file:
        return file.read().splitlines()


@pytest.mark.parametrize("transform", [TRANSFORM, EXACT], ids=["fast", "exact"])
def test_the_largest_images_allowed_fit_and_leave_nothing(transform: Transform) -> None:
    """The largest images allowed fit into the limit, with alpha and rotated too.

    Afterwards the worker is as small as before.
    """
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.new("RGBA", (4700, 4700), "teal")
    hungry = [
        make() for name, make in COSTLY_FILES.items() if name in ("webp, lossless", "jpeg, too long to be reduced")
    ]
    with started(1, transform=transform) as bench:
        assert errors(bench.submit([CAT, phone_jpeg()])) == [None, None]
        (worker,) = (psutil.Process(pid) for pid in bench.stage.pids)
        before = _own_bytes(worker)
        for file in (*hungry, png(picture, compress_level=1, exif=exif)):
            assert errors(bench.submit([file])) == [None]
            assert _own_bytes(worker) < before + KEPT_FREED_BYTES + (8 << 20)
        assert bench.stage.pids == [worker.pid]


def test_freed_memory_is_given_back_where_it_is_much() -> None:
    """Freed memory goes back to the system if it is much.

    Little memory is kept, because getting it again takes time.
    """
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True)
    kept, given_back = map(int, done.stdout.split())
    assert kept > 48
    assert given_back < 16


def _own_bytes(process: psutil.Process) -> int:
    return int(dict(line.split(":") for line in _status(process))["RssAnon"].split()[0]) << 10
