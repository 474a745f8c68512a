"""Tests of the decode stage: the images that decoder processes get, and the results. All processes are real."""

import os
from collections import Counter
from collections.abc import Iterator

import pytest

from harness.photographs import NAMES, jpeg, photograph
from pipeline.bounds import CHUNKS_PER_WORKER
from pipeline.decode.dispatcher import Dispatcher
from pipeline.decode.slots import Claim
from pipeline.errors import ImageTooCostly, TooManyPixels, UndecodableImage
from pipeline.live_limits import Limits
from pipeline.records import EncodedImage, Prediction, Rejection
from pipeline.task import Request
from tests.support.decode_bench import CAT, Bench, brightness, errors, outcomes, started
from tests.support.image_files import BAD, slow_png
from tests.support.waiting import until


@pytest.fixture(scope="module")
def shared() -> Iterator[Bench]:
    """Return a bench of two workers for tests that leave them alive."""
    with started(2) as bench:
        yield bench


@pytest.fixture
def bench(shared: Bench) -> Iterator[Bench]:
    """Return the shared bench, whose slots are free before and after each test."""
    yield shared
    shared.stage.limits, shared.queue.batch_size = Limits(), 32
    until(lambda: shared.slots.free == shared.slots.count)


def test_every_image_gets_its_own_answer(bench: Bench) -> None:
    """Each of 300 images of several kinds, through 64 slots, gets the brightness of its own picture."""
    files = {name: jpeg(photograph(name)) for name in NAMES}
    alone = {name: brightness(outcomes(bench.submit([files[name]]))[0]) for name in NAMES}
    assert len({round(value) for value in alone.values()}) >= 5
    names = [NAMES[n * n % len(NAMES)] for n in range(300)]
    assert [brightness(one) for one in outcomes(bench.submit([files[name] for name in names]))] == [
        alone[name] for name in names
    ]


def test_a_request_of_many_images_is_shared_by_all_workers(bench: Bench) -> None:
    """Two workers decode images of the same request at the same time."""
    request = bench.submit([slow_png()] * 4)
    until(lambda: (bench.slots.claims == Claim.STARTED).sum() == 2)
    assert errors(request) == [None] * 4


def test_one_bad_image_leaves_its_neighbours(bench: Bench) -> None:
    """A bad image is rejected alone, with good images in the same chunk and in others."""
    bad = {name: case for name, case in BAD.items() if name != "empty"}
    request = bench.submit([file for case in bad.values() for file in (CAT, case[0], CAT)])
    assert errors(request) == [kind for case in bad.values() for kind in (None, case[1], None)]
    good = {brightness(outcome) for outcome in outcomes(request) if isinstance(outcome, Prediction)}
    assert len(good) == 1


def test_a_rejection_brings_its_message_and_its_timings(bench: Bench) -> None:
    """A rejection from a worker keeps its message and the time of decoding."""
    (outcome,) = outcomes(bench.submit([BAD["png truncated"][0]]))
    assert isinstance(outcome, Rejection)
    assert isinstance(outcome.error, UndecodableImage)
    assert "142 of 300 rows could be read" in str(outcome.error)
    assert outcome.timings.decode_s > 0
    assert outcome.timings.model_s == 0


def test_limits_on_pixels_and_work_hold_from_the_next_image_on(bench: Bench) -> None:
    """New limits on pixels and work apply to the next image, also in the worker, which reads the header again."""
    assert errors(bench.submit([CAT])) == [None]
    bench.stage.limits = Limits(max_image_pixels=photograph("cat").width * photograph("cat").height - 1)
    assert errors(bench.submit([CAT])) == [TooManyPixels]
    bench.stage.limits = Limits(max_image_work_s=0.0001)
    assert errors(bench.submit([CAT])) == [ImageTooCostly]


def test_no_chunk_is_larger_than_a_batch(bench: Bench) -> None:
    bench.queue.batch_size = 3
    before = len(bench.delivered)
    outcomes(bench.submit([CAT] * 40))
    assert max(len(tasks) for tasks in bench.delivered[before:]) == 3


def test_nothing_is_decoded_that_the_device_cannot_use_yet() -> None:
    """At most two batches wait decoded for the device.

    An image that comes then is decoded before the rest of a large request.
    """
    with started(1) as bench:
        bench.queue.batch_size = 4
        bench.may_answer.clear()
        large = bench.submit([CAT] * 40)
        until(lambda: bench.queue.capacity_left <= 0)
        single = bench.submit([CAT])
        bench.may_answer.set()
        assert errors(large) == [None] * 40
        assert errors(single) == [None]
        most_ahead = bench.queue.batch_size + CHUNKS_PER_WORKER * bench.queue.batch_size
        order = [task in single.tasks for tasks in bench.delivered for task in tasks]
        assert order.index(True) <= most_ahead + 1


@pytest.mark.parametrize(("images", "chunks"), [(3, [1, 1, 1]), (4, [1, 1, 1, 1]), (6, [2, 2, 2]), (8, [2, 2, 2, 2])])
def test_cheap_images_are_handed_out_together(images: int, chunks: list[int]) -> None:
    """Cheap images go to four idle workers together, but no worker gets more than its even share."""
    with started(4) as bench:
        request = bench.submit([CAT] * images)
        assert errors(request) == [None] * images
        together = Counter(task.handed_out_at for task in request.tasks)
        assert list(together.values()) == chunks


def test_cancelled_images_are_not_decoded() -> None:
    """Images of a cancelled request that no worker has begun are never handed to a worker."""
    with started(1) as bench:
        first = bench.submit([slow_png()] * 3)  # two chunks, as many as the worker holds
        waiting, last = bench.submit([CAT] * 5), bench.submit([CAT])
        assert waiting.future.cancel()
        assert errors(first) == [None] * 3
        assert errors(last) == [None]
        assert [task.handed_out_at for task in waiting.tasks] == [0.0] * 5


def test_images_wait_where_all_slots_are_taken() -> None:
    """Images wait while all slots are taken, here two for ten images: none is lost, and none overwrites another."""
    with started(1, slots=2) as bench:
        bench.may_answer.clear()
        request = bench.submit([jpeg(photograph(name)) for name in NAMES])
        until(lambda: len(bench.delivered) == 2)
        assert bench.slots.free == 0
        bench.may_answer.set()
        values = [brightness(outcome) for outcome in outcomes(request)]
        assert len({round(value) for value in values}) >= 5


def test_large_files_give_their_memory_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a file of 20 MB the slots keep no more memory than their bound (`MAX_KEPT_BYTES`)."""
    monkeypatch.setattr("pipeline.decode.slots.MAX_KEPT_BYTES", 1 << 20)
    large = CAT + b"\0" * (20 << 20)
    with started(1, slots=2) as bench:
        assert errors(bench.submit([large])) == [None]
        until(lambda: bench.slots.free == 2)
        assert os.fstat(bench.slots._fd).st_blocks * 512 < 4 << 20


def test_an_image_may_take_ten_times_its_cost_and_a_second_at_least() -> None:
    """An image may take ten times its cost at the current pace.

    The limit is at least one second and at most the configured time.
    """
    bench = Bench(1, decode_timeout_s=20.0)
    request, pace = Request([EncodedImage(CAT)]), bench.stage._dispatcher.backlog.pace
    (task,) = request.tasks

    def limit_s(cost_s: float) -> float:
        task.cost_s = cost_s
        return Dispatcher.limit_s(bench.stage._dispatcher, task)

    assert [limit_s(cost_s) for cost_s in (0.003, 0.5, 5.0)] == [1.0, 5.0, 20.0]
    for _ in range(100):
        pace.note(0.3, 0.1)
    assert limit_s(0.5) == pytest.approx(15.0, rel=0.01)
    bench.close()
