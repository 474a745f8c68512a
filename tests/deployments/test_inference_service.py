"""Tests of the inference service without a protocol: admission, deadlines and counts."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress

import pytest

from deployments.live_config import LiveConfig
from deployments.request_errors import DeadlineExceeded, Overloaded, RequestTooCostly
from deployments.service import Deadline
from harness.photographs import jpeg, photograph
from pipeline.errors import DarkroomError, EmptyImage, EngineClosed
from pipeline.records import EncodedImage, Outcome, Rejection
from tests.support.fake_engine import CAT, FakeService

PHOTOGRAPH = jpeg(photograph("cat"))


def image() -> EncodedImage:
    return EncodedImage(PHOTOGRAPH)


def refused(error: type[DarkroomError], service: FakeService, *, limit_s: float = 60.0, images: int = 1) -> str:
    """Return the message with which a request is refused, and check that none of it reached the engine."""
    with pytest.raises(error) as seen:
        asyncio.run(service.infer([image()] * images, Deadline(limit_s)))
    assert service.engine.requests == []
    return str(seen.value)


def test_it_knows_neither_http_nor_ray() -> None:
    """The service imports neither an HTTP library nor Ray, and leaves torch to the engine."""
    program = "import sys, deployments.service; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"ray", "starlette", "uvicorn", "grpc", "torch"}


def test_outcomes_come_in_order_and_rejections_keep_their_places() -> None:
    """Outcomes come in order.

    Images rejected before or by their headers keep their places and do not reach the engine.
    """
    service, missing = FakeService(), Rejection(EmptyImage("the image has no bytes"))
    images: list[EncodedImage | Rejection] = [image(), missing, EncodedImage(b"GIF89a"), image()]
    inference = asyncio.run(service.infer(images, Deadline(60.0)))
    first, second, third, fourth = inference.outcomes
    assert (first, second, fourth) == (CAT, missing, CAT)
    assert isinstance(third, Rejection)
    assert service.engine.requests == [[images[0], images[3]]]
    assert service.recorder.images == list(inference.outcomes)


def test_a_request_is_timed_from_its_deadlines_beginning_to_its_answer() -> None:
    """A request is timed from the start of its deadline to its answer; the stages add up to that time."""

    async def timed() -> tuple[tuple[float, ...], float]:
        service, deadline = FakeService(), Deadline(60.0)
        await asyncio.sleep(0.01)
        inference = await service.infer([image()], deadline)
        seen = service.note_answered(inference)
        assert service.recorder.answered == [seen]
        return seen

    stages_s, total_s = asyncio.run(timed())
    assert 0.01 <= stages_s[0] <= total_s


def test_a_request_that_would_wait_too_long_is_refused() -> None:
    """A request that would wait longer than the limit or its own deadline is refused, and the message names which."""
    assert "would wait for 5.00 s; the limit is 1 s (max_queue_wait_s)" in refused(
        Overloaded, FakeService(wait_s=5.0, max_queue_wait_s=1.0)
    )
    assert "(the time limit of the request)" in refused(Overloaded, FakeService(wait_s=5.0), limit_s=2.0)


def test_a_request_that_costs_too_much_is_refused() -> None:
    assert "max_request_work_s" in refused(RequestTooCostly, FakeService(max_request_work_s=0.01), images=100)


def test_a_deadline_that_has_passed_ends_a_request_before_it_begins() -> None:
    message = refused(DeadlineExceeded, FakeService(), limit_s=0.0)
    assert message == "the request was not answered within 0 s, its time limit"


def test_a_deadline_that_passes_gives_the_images_up() -> None:
    """When a deadline passes, images that no worker has begun are dropped."""
    service, future = FakeService(), Future[list[Outcome]]()
    service.engine.answers = lambda _: future
    with pytest.raises(DeadlineExceeded, match=r"not answered within 0\.02 s"):
        asyncio.run(service.infer([image()], Deadline(0.02)))
    assert future.cancelled()
    assert service.recorder.images == []


def test_a_fault_of_the_engine_is_the_requests() -> None:
    service, future = FakeService(), Future[list[Outcome]]()
    future.set_exception(EngineClosed("the engine was closed"))
    service.engine.answers = lambda _: future
    with pytest.raises(EngineClosed):
        asyncio.run(service.infer([image()], Deadline(60.0)))


@pytest.mark.parametrize("stage", ["read", "queue"])
def test_a_client_that_goes_is_counted_and_its_work_given_up(stage: str, caplog: pytest.LogCaptureFixture) -> None:
    """A client that goes cancels its request, which is counted; the log names the stage that it had reached."""
    service, future, is_held = FakeService(), Future[list[Outcome]](), asyncio.Event()
    service.engine.answers = lambda _: future

    async def asked() -> None:
        with service.hold("192.0.2.7") as hold:
            hold.take(1000)
            is_held.set()
            if stage == "read":
                await asyncio.Event().wait()
            hold.finish()
            await service.infer([image()], Deadline(60.0))

    async def goes() -> None:
        task = asyncio.create_task(asked())
        await is_held.wait()
        await asyncio.sleep(0)
        assert service.held_bytes == 1000
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    with caplog.at_level("INFO", "deployments"):
        asyncio.run(goes())
    assert service.recorder.ended == {"ClientGone": 1}
    assert service.held_bytes == 0
    assert [record.stage for record in caplog.records] == [stage]  # type: ignore[attr-defined]  # by `extra`
    assert future.cancelled() == (stage == "queue")


def test_bytes_beyond_the_limit_are_refused_and_those_held_are_freed() -> None:
    service = FakeService(max_bytes_in_flight=1000, max_request_bytes=1000, max_image_bytes=1000)
    with service.hold("192.0.2.7") as hold, service.hold("192.0.2.8") as other:
        hold.take(900)
        hold.finish()
        with pytest.raises(Overloaded, match="max_bytes_in_flight"):
            other.take(200)
    assert service.held_bytes == 0


def test_new_settings_hold_at_once() -> None:
    """New settings apply at once, also to the limits of the engine."""
    service = FakeService(wait_s=5.0, max_queue_wait_s=1.0)
    refused(Overloaded, service)
    service.live = LiveConfig(max_queue_wait_s=10.0, max_batch_size=8)
    assert list(asyncio.run(service.infer([image()], Deadline(60.0))).outcomes) == [CAT]
    assert service.engine.limits.max_batch_size == 8


def test_the_event_loop_runs_on_while_many_images_are_examined() -> None:
    """The event loop runs other tasks between some images of a large request.

    A refused request does not wait for it.
    """
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def both(work: Callable[[], Awaitable[object]]) -> None:
        task = asyncio.create_task(others())
        await work()
        task.cancel()

    service = FakeService()
    asyncio.run(both(lambda: service.infer([image()] * 100, Deadline(60.0))))
    assert turns >= 3
