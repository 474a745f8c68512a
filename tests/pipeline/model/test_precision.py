"""Tests of the choice of a number format where the configuration leaves it open."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from pipeline.input_spec import InputSpec
from pipeline.model import runtime_torch, runtimes
from pipeline.model.classify import Classify
from pipeline.model.cuda import CudaDevice
from pipeline.model.device import PendingBatch
from pipeline.model.device_module import DTYPES, DeviceModule
from pipeline.model.intake import Normalise
from pipeline.model.precision import quickest, scenes
from pipeline.model.reference import MAX_DIFFERENCE_FROM_FLOAT32
from pipeline.model.runtime import PreparedModel, RuntimeChoice, TracedSource
from pipeline.model.runtimes import choose
from tests.support.device_kinds import device_of

SIDE, LARGEST = 32, 16
MATRIX_SIDE = 2048 if torch.cuda.is_available() else 160  # a multiplication must take long beside a launch
PIXELS = scenes(LARGEST, SIDE)


class SlowedModel(nn.Module):
    """A model of two classes, by the mean of the first channel, whose time and error depend on the format.

    Args:
        work: multiplications of large matrices, by format.
        added: error that is added to the first logit, by format.
    """

    def __init__(self, work: dict[torch.dtype, int], added: dict[torch.dtype, float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))  # a tensor whose dtype is the format
        self.matrix = nn.Buffer(torch.eye(MATRIX_SIDE))
        self.work, self.added = work, added

    def forward(self, images: Tensor) -> Tensor:
        """Logits [n, 2]."""
        if not len(images):  # a branch stops torch.fx, which would not know the format
            raise ValueError("no images")
        # The images are part of the computation: anything else would be computed only once, for the graph.
        done = self.matrix.float() * self.weight.float() + 0 * images.float().mean()
        for _ in range(self.work.get(images.dtype, 0)):
            done = done @ done
        first = images[:, 0].mean((1, 2)) * done[0, 0].to(images.dtype) + self.added.get(images.dtype, 0.0)
        return torch.stack([first, torch.zeros_like(first)], dim=1)


def chosen(work: dict[torch.dtype, int], added: dict[torch.dtype, float], kind: str) -> torch.dtype:
    model = DeviceModule(SlowedModel(work, added), Classify((), 2), Normalise((0.5,) * 3, (0.5,) * 3), torch.float32)
    return open_dtype(model, kind)


def open_dtype(model: DeviceModule, kind: str) -> torch.dtype:
    """Return the number format that is chosen where the configuration leaves it open."""
    if kind == "cuda":
        return quickest(model, PIXELS, LARGEST).dtype
    source = TracedSource(model, InputSpec.of(PIXELS))
    return DTYPES[choose(source, RuntimeChoice("torch", "auto", PIXELS), 1).computed_as.dtype]


SLOW, HOPELESS = 60, 300
OFF = 12 * MAX_DIFFERENCE_FROM_FLOAT32  # of a logit, which changes its score by at most a quarter


@pytest.mark.parametrize(
    ("work", "added", "expected"),
    [
        pytest.param({torch.float32: SLOW, torch.float16: SLOW}, {}, torch.bfloat16, id="the quickest"),
        pytest.param({torch.float32: SLOW, torch.bfloat16: SLOW // 2}, {}, torch.float16, id="quicker still"),
        pytest.param(
            {torch.float32: SLOW, torch.float16: 1},
            {torch.bfloat16: OFF},
            torch.float16,
            id="the quickest that agrees",
        ),
        pytest.param(
            {torch.float32: SLOW},
            {torch.bfloat16: OFF, torch.float16: float("nan")},
            torch.float32,
            id="none that agrees",
        ),
        pytest.param(
            {torch.float32: SLOW, torch.bfloat16: 2 * SLOW, torch.float16: HOPELESS},
            {},
            torch.float32,
            id="none that is quicker",
        ),
    ],
)
def test_the_quickest_that_agrees_is_taken(
    work: dict[torch.dtype, int], added: dict[torch.dtype, float], expected: torch.dtype, kind: str
) -> None:
    assert chosen(work, added, kind) == expected


@pytest.mark.parametrize(
    ("float16_s", "bfloat16_s", "expected"),
    [
        (0.5, 0.5, torch.float16),
        (0.5, 0.49, torch.float16),
        (0.5, 0.4, torch.bfloat16),
        (0.99, 0.98, torch.float32),
        (1.0, 1.0, torch.float32),
    ],
)
def test_of_formats_that_are_as_quick_the_more_exact_is_taken(
    float16_s: float, bfloat16_s: float, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The more exact of two equally quick formats is chosen; a difference below 5 % may be chance."""
    seconds = {torch.float32: 1.0, torch.float16: float16_s, torch.bfloat16: bfloat16_s}

    def told(_: object, prepared: PreparedModel) -> float:
        return seconds[DTYPES[prepared.computed_as.dtype]]

    monkeypatch.setattr(runtimes._Search, "_image_s", told)
    monkeypatch.setattr(runtime_torch, "_MAX_TIME_RATIO_OF_ONE_IMAGE", math.inf)
    assert chosen({}, {}, "cpu") == expected


@pytest.mark.cuda
def test_on_cuda_the_largest_batch_is_measured_as_it_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """On CUDA the largest batch is measured as it is served.

    It is read from page-locked memory and computed by graph, in float32 without TF32.
    """
    seen = []
    launch = CudaDevice.launch

    def noted(device: CudaDevice, pieces: Sequence[Tensor]) -> PendingBatch:
        (pixels,) = pieces
        flags = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        seen.append((len(pixels), pixels.is_pinned(), device.computed_as.way, *flags))
        return launch(device, pieces)

    monkeypatch.setattr(CudaDevice, "launch", noted)
    with device_of("cuda"):
        chosen({}, {}, "cuda")
    assert set(seen) == {(LARGEST, True, "CUDA graphs", False, False)}


class LimitedModel(SlowedModel):
    """A model without a kernel for bfloat16."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits [n, 2]."""
        if images.dtype == torch.bfloat16:
            raise RuntimeError("not implemented for 'BFloat16'")
        return super().forward(images)


def test_a_format_that_torch_cannot_compute_is_passed_over(kind: str) -> None:
    slow = LimitedModel({torch.float32: SLOW}, {})
    model = DeviceModule(slow, Classify((), 2), Normalise((0.5,) * 3, (0.5,) * 3), torch.float32)
    assert open_dtype(model, kind) == torch.float16


def test_a_classifier_in_another_format_leaves_the_first_as_it_was() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, SIDE), nn.Flatten())
    model = DeviceModule(network, Classify((), 2), Normalise((0.5,) * 3, (0.5,) * 3), torch.float32)
    other = model.computing_in(torch.bfloat16)
    assert {parameter.dtype for parameter in model.module.parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in other.module.parameters()} == {torch.bfloat16}
    pixels = torch.full((1, SIDE, SIDE, 3), 200, dtype=torch.uint8)
    assert other(pixels)[0].dtype == torch.float32
    torch.testing.assert_close(other(pixels)[0], model(pixels)[0], atol=MAX_DIFFERENCE_FROM_FLOAT32, rtol=0)
