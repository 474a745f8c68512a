"""Tests of the check that a model accepts the image size, before anything is started."""

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from pipeline.errors import InvalidModel
from pipeline.model.input_size import check_size


def checked(model: str, crop_px: int) -> None:
    backbone = models.get_model(model, weights=None, num_classes=2).eval()
    check_size(backbone, model, crop_px, models.get_model_weights(model).DEFAULT)


@pytest.mark.parametrize(
    ("model", "crop_px", "usual_px"), [("vit_b_32", 200, 224), ("maxvit_t", 256, 224), ("squeezenet1_1", 1, 224)]
)
def test_a_size_that_a_model_does_not_take_is_refused(model: str, crop_px: int, usual_px: int) -> None:
    """An unsuitable size is refused in one sentence: the model, the size, torch's reason, and the size that fits."""
    says = (
        rf"^crop_px: {crop_px} is a size that model: {model} does not take \(\w+: .+\); it takes crop_px: {usual_px}$"
    )
    with pytest.raises(InvalidModel, match=says):
        checked(model, crop_px)


@pytest.mark.parametrize(("model", "crop_px"), [("vit_b_32", 224), ("squeezenet1_1", 64)])
def test_sizes_that_a_model_takes_are_accepted(model: str, crop_px: int) -> None:
    checked(model, crop_px)


def test_a_model_that_shapes_alone_do_not_compute_is_left_to_the_warm_up() -> None:
    """A model that fails on torch's meta device at any size is not checked here, but by the warm-up."""

    class Reader(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            return torch.zeros(len(pixels), int(pixels.sum() > 0))

    check_size(Reader(), "reader", 1, None)
