"""Tests of a CUDA device under failures and many batches: each image gets its own answer, and no request hangs.

Without a GPU they run on the CPU that poses as one, whose streams report races.
"""

import logging
import random
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from harness.photographs import NAMES, photograph
from pipeline.decode.slots import Slots
from pipeline.engine import Engine
from pipeline.input_spec import InputSpec
from pipeline.model.batcher import Batcher
from pipeline.model.classify import Classify
from pipeline.model.cuda import CudaDevice
from pipeline.model.device import collect
from pipeline.ready_queue import PixelBatch, ReadyQueue
from pipeline.records import EncodedImage, Outcome, Prediction
from pipeline.task import Request
from tests.conftest import PIPELINE
from tests.pipeline.model.test_device import NEAR, SIZES, SPEC, classifier, expected, in_order_of_classes, noise
from tests.pipeline.test_engine import scores
from tests.support.decode_bench import GEOMETRY
from tests.support.device_kinds import GPU, device_of, needs_gpu
from tests.support.image_files import png
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.cuda


@pytest.fixture(autouse=True)
def cuda() -> Iterator[None]:
    """Return a CUDA device, or the CPU that poses as one."""
    with device_of("cuda"):
        yield


def fed(device: CudaDevice, batches: list[Tensor]) -> list[list[Outcome]]:
    """Return the outcomes of batches of up to 8 images, all of which wait when the device takes the first."""
    slots = Slots(8 * len(batches), SPEC)
    unlock = device.page_lock(slots.tensor)
    queue = ReadyQueue(batch_size=8, concurrent_batches=1)
    batcher = Batcher(device, Classify("abcdefg"), queue, max_batch_size=8)
    try:
        batcher.start()
        requests = []
        with queue._changed:  # no batch is taken before all wait
            for number, pixels in enumerate(batches):
                ours = slots.tensor[8 * number : 8 * number + len(pixels)]
                ours[:] = pixels
                requests.append(Request([EncodedImage(b"x")] * len(pixels)))
                queue.put(PixelBatch(8 * number, ours, requests[-1].tasks, GEOMETRY * len(pixels), lambda *_: None))
        return [request.future.result(PATIENCE_S) for request in requests]
    finally:
        batcher.close()
        unlock()


def after_warm_up(device: CudaDevice, change: Callable[[Callable[[], object], int], Callable[[], object]]) -> None:
    """Once the device is warm, replaces the computation of a batch by `change` of it and of the batch's size."""
    warm_up = device.warm_up

    def warmed() -> dict[int, float]:
        seconds = warm_up()
        for buffer in device._buffers:
            buffer.compute = {size: change(compute, size) for size, compute in buffer.compute.items()}  # type: ignore[misc]
        return seconds

    device.warm_up = warmed  # type: ignore[method-assign]


def assert_answers(outcomes: list[Outcome], pixels: Tensor) -> None:
    assert all(isinstance(outcome, Prediction) for outcome in outcomes)
    predictions = [outcome for outcome in outcomes if isinstance(outcome, Prediction)]
    scores = torch.tensor([outcome.result.scores for outcome in predictions])
    classes = torch.tensor([outcome.result.indices for outcome in predictions])
    got = torch.empty_like(scores).scatter_(1, classes, scores)
    torch.testing.assert_close(got, expected(pixels), atol=NEAR, rtol=0)


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_launch_that_fails_changes_no_answer_of_the_batch_before_it(
    failing: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A launch that fails changes no answer of the batch before it: the retry uses a free staging buffer.

    Each launch here raises after its images were copied, while the batch before it has not been read yet.
    """
    calls = 0

    def sometimes(compute: Callable[[], object], _: int) -> Callable[[], object]:
        def computed() -> object:
            nonlocal calls
            calls += 1
            if calls % 4 == failing:
                raise RuntimeError("once")
            torch.cuda._sleep(100_000_000)  # cycles: about 0.05 s
            return compute()

        return computed

    device, batches = CudaDevice(classifier(), SIZES, SPEC), [noise(8, seed=turn) for turn in range(10)]
    after_warm_up(device, sometimes)
    with caplog.at_level(logging.CRITICAL):
        for outcomes, pixels in zip(fed(device, batches), batches, strict=True):
            assert_answers(outcomes, pixels)
    assert calls > 10


def test_a_batch_too_large_for_the_device_is_answered_by_halves(caplog: pytest.LogCaptureFixture) -> None:
    def with_room_for_two(compute: Callable[[], object], size: int) -> Callable[[], object]:
        def refuse() -> object:
            raise torch.OutOfMemoryError("no room")

        return compute if size <= 2 else refuse

    device, pixels = CudaDevice(classifier(), SIZES, SPEC), noise(8, seed=20)
    after_warm_up(device, with_room_for_two)
    with caplog.at_level(logging.CRITICAL):
        (outcomes,) = fed(device, [pixels])
    assert_answers(outcomes, pixels)


def test_thousands_of_images_each_get_their_own_answer() -> None:
    """Thousands of images each get their own answer, in batches of every size.

    Slots are overwritten as soon as possible.
    """
    slots, images, draw = Slots(4 * SIZES[-1], SPEC), noise(64), random.Random(5)
    known, device = expected(images), CudaDevice(classifier(), SIZES, SPEC)
    unlock = device.page_lock(slots.tensor)
    device.warm_up()
    in_flight = []

    def check(first: int, picks: list[int], launched: object) -> None:
        got = in_order_of_classes(collect(launched))  # type: ignore[arg-type]
        slots.tensor[first : first + len(picks)] = 255
        torch.testing.assert_close(got, known[picks], atol=NEAR, rtol=0)

    try:
        for turn in range(2500 if GPU else 250):
            picks = [draw.randrange(64) for _ in range(draw.randint(1, SIZES[-1]))]
            first, cut = SIZES[-1] * (turn % 4), draw.randint(0, len(picks))
            slots.tensor[first : first + len(picks)] = images[picks]
            pieces = [slots.tensor[first : first + cut], slots.tensor[first + cut : first + len(picks)]]
            in_flight.append((first, picks, device.launch([piece for piece in pieces if len(piece)])))
            if len(in_flight) > device.ahead:
                check(*in_flight.pop(0))
        for each in in_flight:
            check(*each)
    finally:
        unlock()


# ---- what only a GPU can show ---------------------------------------------------------------------------------------


@needs_gpu("only there kernels round in another way than on the CPU")
@pytest.mark.parametrize(("dtype", "near"), [("float32", 1e-4), ("float16", 2e-2), ("bfloat16", 1e-1)])
def test_photographs_get_the_scores_that_they_get_on_the_cpu(dtype: str, near: float) -> None:
    """Photographs get the CPU's scores, all 1000, through the whole engine. In bfloat16 the tolerance is larger."""
    files = [png(photograph(name)) for name in NAMES]
    rows = []
    for changes in ({"device": "cuda", "dtype": dtype}, {"device": "cpu"}):
        settings = {
            "decode": "exact",
            "batch_sizes": [8],
            "decode_workers": 2,
            **changes,
        }  # few graphs, for a quick start
        with Engine(PIPELINE.model_copy(update=settings)) as engine:
            rows.append(torch.stack([scores(outcome) for outcome in engine.infer(files)]))
    torch.testing.assert_close(*rows, atol=near, rtol=0)
    assert dtype == "bfloat16" or rows[0].argmax(1).equal(rows[1].argmax(1))


@needs_gpu("only there memory is page-locked")
def test_page_locking_takes_the_pixels_alone() -> None:
    """Only the pixels of the slots are page-locked, not the address space for encoded images of 64 MiB a slot."""
    device, slots = CudaDevice(classifier(), (1,), SPEC), Slots(1024, InputSpec.of_pixels(224))
    before_kb = _shared_kb()
    unlock = device.page_lock(slots.tensor)
    grown_kb = _shared_kb() - before_kb
    unlock()
    assert grown_kb << 10 <= 1.1 * slots.tensor.nbytes + (1 << 20)


def _shared_kb() -> int:
    return int(Path("/proc/self/status").read_text().partition("RssShmem:")[2].split()[0])


@needs_gpu("only there an error of the device's own ends all that its process computes")
def test_after_an_error_of_cudas_own_nobody_waits_for_ever() -> None:
    """After a CUDA error every request fails and `check` reports it, within a bounded time."""
    program = textwrap.dedent(
        """
        import logging, torch
        logging.disable(logging.CRITICAL)
        from pipeline.model.cuda import CudaDevice
        from pipeline.errors import DeviceFailure
        from tests.pipeline.model.test_cuda import Backbone, model
        from tests.pipeline.model.test_cuda_faults import fed
        from tests.pipeline.model.test_device import SIDE, SIZES, SPEC, noise
        class Asserting(Backbone):
            def __init__(self):
                super().__init__()
                self.table = torch.nn.Embedding(2, 7)
            def forward(self, images):
                white = (images.flatten(1).amin(1) > 4.9).long()
                return super().forward(images) + self.table(99 * white)
        device = CudaDevice(model(Asserting()), SIZES, SPEC)
        white = torch.full((8, SIDE, SIDE, 3), 255, dtype=torch.uint8)
        try:
            print("answered", fed(device, [noise(8), white, noise(8)]))
        except DeviceFailure as error:
            print("DeviceFailure:", error)
        """
    )
    began_at = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert "DeviceFailure:" in done.stdout, done.stdout + done.stderr
    assert time.monotonic() - began_at < 90
