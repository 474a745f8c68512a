"""Tests of the way in which a model is computed on CUDA.

Without a GPU they run on the CPU that poses as one, whose streams report races.
"""

import logging
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from pipeline.decode.slots import Slots
from pipeline.model.classify import Classify
from pipeline.model.cuda import CudaDevice
from pipeline.model.device import collect
from pipeline.model.device_module import DeviceModule
from pipeline.model.folding import folded
from pipeline.model.intake import Normalise
from tests.pipeline.model.test_device import CLASSES, NEAR, SIZES, SPEC, in_order_of_classes, noise
from tests.support.device_kinds import device_of

pytestmark = pytest.mark.cuda


@pytest.fixture(autouse=True)
def cuda() -> Iterator[None]:
    """Return a CUDA device, or the CPU that poses as one."""
    with device_of("cuda"):
        yield


class Backbone(nn.Module):
    """A convolution with batch norm; subclasses add one operation."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.convolution, self.norm = nn.Conv2d(3, 8, 5, stride=3, bias=False), nn.BatchNorm2d(8)
        self.head = nn.Linear(8 * 4 * 4, CLASSES)
        self.norm.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
        self.norm.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        """Logits [n, CLASSES]."""
        self.calls += 1
        features = self.norm(self.convolution(images)).relu()
        logits: Tensor = self.head(features.flatten(1))
        return logits


class BranchingAfterCapture(Backbone):
    """A model that torch.fx cannot trace, because it branches on the number of images."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits [n, CLASSES]."""
        return super().forward(images) if len(images) else images.new_zeros(0, CLASSES)


class Uncapturable(BranchingAfterCapture):
    """A model that cannot be recorded as a CUDA graph, but can be traced."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits [n, CLASSES]."""
        if torch.cuda.is_current_stream_capturing():
            raise RuntimeError("not while capturing\nand more")
        return super().forward(images)


class Waiting(BranchingAfterCapture):
    """A model that can be neither recorded nor traced: it waits for the device and branches on each image."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits [n, CLASSES]."""
        return torch.stack([row.flip(0) if float(row[0]) > float(row[1]) else row for row in super().forward(images)])


def model(backbone: nn.Module, dtype: torch.dtype = torch.float32) -> DeviceModule:
    return DeviceModule(backbone.eval(), Classify((), CLASSES), Normalise((0.5,) * 3, (0.1,) * 3), dtype)


def by_itself(backbone: nn.Module, pixels: Tensor) -> Tensor:
    """Return float32 [n, CLASSES]: the scores of each image alone, on the CPU, in the order of classes."""
    rows = []
    with torch.inference_mode():
        for image in pixels:
            scores, classes = model(backbone)(image[None])
            rows.append(torch.empty_like(scores).scatter_(1, classes, scores))
    return torch.cat(rows)


# ---- ways to compute ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "way"),
    [
        (Backbone, "CUDA graphs with batch norm folded"),
        (BranchingAfterCapture, "CUDA graphs"),
        (Uncapturable, "a TorchScript graph"),
        (Waiting, "modules, kernel by kernel"),
    ],
)
def test_a_model_that_cannot_be_recorded_computes_all_the_same(
    kind: type[Backbone], way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A model is computed in the quickest way that works, with the same answers.

    The log says what does not work and why.
    """
    device = CudaDevice(model(kind()), SIZES, SPEC)
    with caplog.at_level(logging.INFO):
        assert tuple(device.warm_up()) == SIZES
    assert device.computed_as.way == way
    assert f"computed as {way}" in caplog.text or way.startswith("modules")
    assert "and more" not in caplog.text
    slots = Slots(8, SPEC)
    unlock = device.page_lock(slots.tensor)
    try:
        for turn, images in enumerate((8, 3, 1, 6, 2)):
            slots.tensor[:images] = noise(images, seed=turn)
            got = in_order_of_classes(collect(device.launch([slots.tensor[:images]])))
            torch.testing.assert_close(got, by_itself(kind(), noise(images, seed=turn)), atol=NEAR, rtol=0)
    finally:
        unlock()


def test_in_half_precision_batch_norm_stays() -> None:
    """In half precision batch norm is not folded: it gains no time there and rounds more."""
    device = CudaDevice(model(Backbone(), torch.bfloat16), SIZES, SPEC)
    device.warm_up()
    assert device.computed_as.way == "CUDA graphs"


def test_a_recorded_model_asks_nothing_of_python() -> None:
    """A recorded model runs without Python, so a busy event loop delays a batch only once."""
    backbone = BranchingAfterCapture()
    device = CudaDevice(model(backbone), SIZES, SPEC)
    device.warm_up()
    before = backbone.calls
    for images in SIZES:
        device._computed(noise(images))
    assert backbone.calls == before


class Forgetful(BranchingAfterCapture):
    """A model whose recording repeats the first images that it has seen."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits [n, CLASSES]."""
        return super().forward(torch.zeros_like(images) if torch.cuda.is_current_stream_capturing() else images)


def test_a_graph_that_answers_otherwise_than_the_model_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    device = CudaDevice(model(Forgetful()), SIZES, SPEC)
    device.warm_up()
    assert device.computed_as.way == "a TorchScript graph"
    assert "not computed as CUDA graphs: its scores differ by up to" in caplog.text


def test_batch_norm_is_folded_and_the_original_left_as_it_was() -> None:
    """Folding batch norm leaves the original model unchanged, and works in float16 with variances too small for it."""
    backbone = Backbone()
    backbone.norm.running_var.fill_(3e-8)  # type: ignore[union-attr]
    half = model(backbone).computing_in(torch.float32).computing_in(torch.float16)
    slim = folded(half)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in slim.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in half.modules())
    assert {parameter.dtype for parameter in slim.parameters()} == {torch.float16}
