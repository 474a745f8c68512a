"""Tests of measuring the model's cost, on the CPU and on CUDA."""

import math

import pytest
import torch

from harness.photographs import jpeg, photograph
from pipeline.config import PipelineConfig
from pipeline.input_spec import InputSpec
from pipeline.model.device_kind import open_device
from pipeline.model.device_module import DeviceModule
from pipeline.model.runtime import RuntimeChoice
from tests.support.device_kinds import needs_gpu
from tests.support.quick_model import QUICK_MODEL, quick_model
from tuning import computing
from tuning.computing import BATCH_SIZES, ComputeCost, MeasuredModel, _opened

IMAGES = [jpeg(photograph(name)) for name in ("cat", "rocket")]
MAX_PIXELS = 50_000_000
SPEC = InputSpec.of_pixels(224)
CHOICE = RuntimeChoice("torch", "float32", torch.empty(0))


@pytest.mark.parametrize(
    "kind", ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, needs_gpu("batches of 256 take it too long")])]
)
def test_every_size_that_is_offered_can_be_measured(kind: str) -> None:
    """Every offered batch size can be measured with each number of concurrent batches.

    The fitted law has no cost below 0.

    The times are not tested: on a large GPU eight images may take as long as one.
    """
    config = PipelineConfig(model=QUICK_MODEL, device="cuda" if kind == "cuda" else "cpu", runtime="torch")
    model = MeasuredModel(config, 2, IMAGES, MAX_PIXELS, bound_s=1.0)
    assert list(model.concurrent_batches) == ([1, 2] if kind == "cpu" else [1])
    assert set(model.sizes) <= set(BATCH_SIZES)
    for concurrent_batches in model.concurrent_batches:
        for images in model.sizes[:4]:  # fewer if larger sizes do not help
            model.measure(concurrent_batches, images, 0.05)
    cost, once = model.cost, len(model.cost.batches[1, 1])
    model.measure(1, 1, 0.05)
    assert len(cost.batches[1, 1]) > once  # a second measurement adds to the first
    assert (cost.concurrent_batches, cost.sizes) == (list(model.concurrent_batches), model.sizes[:4])
    assert min(fit.each_s for fit in cost.fits().values()) >= 0
    assert 0.01 < model.speed(0.05) < 100  # the same machine a moment later, so that an error in units would show
    model.close()


def test_the_cost_of_a_batch_is_the_median_of_its_measurements() -> None:
    """The cost of a batch is the median of its measurements, so one that was disturbed does not count."""
    cost = ComputeCost({(1, 1): [0.010, 0.011, 0.9], (1, 8): [0.012, 0.011, 0.010], (2, 1): [0.02], (2, 8): [0.02]})
    assert (cost.concurrent_batches, cost.sizes) == ([1, 2], [1, 8])
    assert (cost.seconds(1, 1), cost.seconds(1, 8)) == (0.011, 0.011)
    assert cost.rate(1, 8) == pytest.approx(8 / 0.011)
    assert cost.rate(2, 8) == pytest.approx(2 * 8 / 0.02)


@pytest.mark.parametrize(("of_eight_s", "each_s"), [(0.080, 0.010), (0.010, 0.0), (0.008, 0.0)], ids=str)
def test_a_batch_may_take_as_long_as_one_image(of_eight_s: float, each_s: float) -> None:
    """A batch may take as long as one image, or less by noise; the cost of an image is then 0, never below."""
    fit = ComputeCost({(1, 1): [0.010], (1, 8): [of_eight_s]}).fits()[1]
    assert fit.each_s == pytest.approx(each_s, abs=1e-9)
    assert min(fit.fixed_s, fit.each_s, fit.beyond_s) >= 0


@pytest.mark.parametrize("slower", [0.5, 1.0, 4.0])
def test_the_speed_of_the_machine_is_relative_to_what_was_measured(
    slower: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The speed of the machine is the earlier time of the smallest batch divided by its time now."""
    model = MeasuredModel.__new__(MeasuredModel)
    model.cost = ComputeCost({(1, 1): [0.010], (2, 1): [0.016], (2, 8): [0.040]})
    model.concurrent_batches, model.sizes = range(1, 3), [1, 8]
    monkeypatch.setattr(
        model,
        "_side_by_side",
        lambda concurrent_batches, images, _: [slower * model.cost.seconds(concurrent_batches, images)],
    )
    assert model.speed(0.1) == pytest.approx(1 / slower)


def test_batches_that_do_not_fit_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch sizes that do not fit into the device's memory are left out, and the smaller ones are offered."""
    really = open_device

    def with_room_for_4(kind: str, classifier: object, *, batch_sizes: tuple[int, ...], **options: int) -> object:
        if batch_sizes[-1] > 4:
            raise torch.OutOfMemoryError("no room")
        return really(kind, classifier, batch_sizes=batch_sizes, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(computing, "open_device", with_room_for_4)
    monkeypatch.setattr(
        "pipeline.model.cpu._MAX_SLOWDOWN_PER_IMAGE", math.inf
    )  # a size may seem hopeless while another process computes
    config = PipelineConfig(device="cpu")
    _, sizes = _opened(config, DeviceModule.of(quick_model()), SPEC, 1, 60.0, CHOICE)
    assert sizes == [1, 2, 4]


def test_batches_that_cannot_be_within_the_bound_are_not_tried() -> None:
    """Batch sizes that cannot be within the bound are not tried, except the smallest.

    With a large model they would take minutes.
    """
    config = PipelineConfig(device="cpu")
    module = DeviceModule.of(quick_model())
    sizes = [_opened(config, module, SPEC, 1, bound_s, CHOICE)[1] for bound_s in (1e-6, 0.02, None)]
    assert sizes[0] == [1]
    assert max(sizes[1]) < BATCH_SIZES[-1]
    assert max(sizes[2]) >= 4  # without a bound it follows from the time of one image
