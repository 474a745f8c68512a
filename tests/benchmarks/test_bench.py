"""Tests of `make bench`: shares of a limit that drifts, and the stand-in for the model."""

import io
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import pytest
from PIL import Image

from benchmarks import alone, bench, scaling
from benchmarks.contestants import Ask, Contestant
from benchmarks.limit import TRANSFORM, Limit
from benchmarks.standin import StandIn, open_stand_in
from benchmarks.work import MIXED, PHONE, SMALL, SMALL_MANY, Work
from harness.command import Facts
from harness.photographs import NAMES, jpeg, photograph
from harness.repository import ROOT
from pipeline.config import PipelineConfig
from pipeline.engine import Engine
from pipeline.images.decode import decode
from pipeline.live_limits import Limits
from pipeline.records import Prediction

# ---- the work -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("work", [SMALL, SMALL_MANY, PHONE, MIXED], ids=lambda work: work.title)
def test_images_are_as_large_as_they_are_called(work: Work) -> None:
    assert len(work.images) == len({*work.images}) == work.variants * len(NAMES) * len(work.sizes_px)
    found = Counter(Image.open(io.BytesIO(data)).size for data in work.images)
    assert found == {size_px: work.variants * len(NAMES) for size_px in work.sizes_px}


def test_photographs_weigh_what_they_do_in_life() -> None:
    """The images of the benchmarks have the file sizes of real photographs.

    Otherwise reading and decoding would cost nothing.
    """
    for work, kilobytes in ((SMALL, 60), (PHONE, 1300)):
        assert sum(map(len, work.images)) / len(work.images) / 1000 == pytest.approx(kilobytes, rel=0.25)


# ---- the stand-in ---------------------------------------------------------------------------------------------------


def test_the_stand_in_answers_to_the_image() -> None:
    """The stand-in gives the sum of the middle pixel as the class, so an answer to another image would be noticed."""
    images = [jpeg(photograph(name)) for name in NAMES] * 5
    expected = [int(decode(memoryview(data), TRANSFORM, Limits().max_image_pixels)[112, 112].sum()) for data in images]
    with Engine(PipelineConfig(device="cpu", decode_workers=2, concurrent_batches=1), opener=open_stand_in) as engine:
        outcomes = engine.infer(images)
    found = [outcome.result.indices[0] for outcome in outcomes if isinstance(outcome, Prediction)]
    assert found == [value % 1000 for value in expected]
    assert len({*found}) > 3


def test_the_stand_in_sleeps_by_batch_and_image() -> None:
    assert StandIn((1, 32), 5).warm_up() == pytest.approx({1: 0.0021, 32: 0.0052})


@pytest.mark.parametrize(
    "context", [alone.pipeline, alone.loop, alone.stand_in_device, alone.model], ids=lambda context: context.__name__
)
def test_what_runs_alone_has_a_rate(context: Callable[[], AbstractContextManager[alone.Rate]]) -> None:
    with context() as rate:
        assert rate([jpeg(photograph("cat"))], 0.2) > 0


def test_peers_keep_the_limit_of_pillow() -> None:
    """Peers keep Pillow's limit on pixels, unless they are given Darkroom's decoder, which has its own."""
    program = "import benchmarks.peers.variants, PIL.Image; print(PIL.Image.MAX_IMAGE_PIXELS)"
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(found.stdout) > 0


# ---- shares of the limit --------------------------------------------------------------------------------------------


class _Drifting:
    """A limit whose measured values are given in advance."""

    def __init__(self, *rates: float) -> None:
        self._rates = iter(rates)

    def per_s(self, images: Sequence[bytes], *, for_s: float, clients: int) -> float:
        assert images
        assert clients
        assert for_s > 0
        return next(self._rates)


@contextmanager
def _steady() -> Iterator[Ask]:
    yield lambda _work: {"per_s": 50.0}


def _record(limit: _Drifting, rounds: int) -> Facts:
    (record,) = bench.measured(Contestant("x", [SMALL], _steady), limit, rounds)
    return record


def test_a_share_is_of_the_limits_around_it() -> None:
    record = _record(_Drifting(100, 104, 104, 96, 100), rounds=4)
    assert (record["what"], record["load"], record["per_s"], len(record["runs"])) == ("x", SMALL.title, 50.0, 4)
    assert (record["least_of_limit"], record["most_of_limit"]) == pytest.approx((50 / 104, 50 / 98))
    assert record["of_limit"] == pytest.approx((50 / 102 + 50 / 100) / 2)


def test_a_run_whose_limits_differ_is_made_again() -> None:
    """A run whose limit differs before and after is repeated once; the second run always counts."""
    assert _record(_Drifting(100, 50, 50), rounds=1)["of_limit"] == 1.0
    assert _record(_Drifting(100, 50, 100, 50), rounds=1)["of_limit"] == pytest.approx(50 / 75)


def test_every_core_counts_in_the_limit() -> None:
    with Limit() as limit:
        assert limit.per_s([jpeg(photograph("cat"))], for_s=0.2, clients=64) > 0


def test_the_table_leaves_out_what_was_not_measured() -> None:
    record = {"what": "x", "load": "y", "per_s": 50.0, "of_limit": 0.5, "least_of_limit": 0.4, "most_of_limit": 0.6}
    assert bench.rows([record]) == [["x", "y", "50.0", "0.50 (0.40 to 0.60)", "", "", ""]]


# ---- what grows -----------------------------------------------------------------------------------------------------


def test_what_is_measured_again_takes_the_place_of_what_was() -> None:
    records = [{"what": "a", "load": "one", "per_s": 1}, {"what": "a", "load": "two", "per_s": 2}]
    bench.put({"what": "a", "load": "one", "per_s": 3}, records)
    bench.put({"what": "b", "load": "one", "per_s": 4}, records)
    assert [record["per_s"] for record in records] == [3, 2, 4]


def test_a_share_while_something_grows_is_of_the_limits_around_it() -> None:
    rates = iter((7.0, 50.0, 60.0, 70.0))
    found = scaling._share(lambda: next(rates), _Drifting(100, 100, 200, 100), [b""], workers=2, rounds=3)
    assert found == {"per_s": 60.0, "of_limit": pytest.approx(70 / 150), "ms": pytest.approx(1000 / 60)}


def test_what_a_worker_has_of_its_own_is_found() -> None:
    """A worker's own memory is less than the memory that it shares with the forkserver, which has imported torch."""
    before = set(scaling.own_workers())
    with alone.pipeline(workers=2):
        own = [scaling._own_mib(process) for process in set(scaling.own_workers()) - before]
    assert len(own) == 2
    assert all(1 < mib < 150 for mib in own)
