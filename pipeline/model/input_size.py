"""Checks the image size that a model accepts."""

import torch
from torch import nn

from pipeline.errors import InvalidModel, first_line
from pipeline.torchvision_models import WeightsEnum


def check_size(backbone: nn.Module, model: str, crop_px: int, weights: WeightsEnum | None) -> None:
    """Check before the start that a model accepts images of an unusual size.

    Only shapes are computed, on torch's meta device, which takes less than a second for the largest models. A model
    that cannot run on that device is checked by the warm-up instead.

    Args:
        backbone: the model in evaluation mode.
        model: name of the model.
        crop_px: side of the images.
        weights: torchvision's weights, which tell the usual size.

    Raises:
        InvalidModel: the model accepts the usual size, but not this one.
    """
    usual_px = int(weights.transforms().crop_size[0]) if weights else 224
    if crop_px == usual_px or not (refusal := refusal_of(backbone, crop_px)) or refusal_of(backbone, usual_px):
        return
    raise InvalidModel(
        f"crop_px: {crop_px} is a size that model: {model} does not take ({first_line(refusal)}); it takes crop_px: "
        f"{usual_px}"
    ) from refusal


def refusal_of(backbone: nn.Module, side_px: int) -> Exception | None:
    """Return the error of a model for images of a size, by shapes alone; None if it accepts them."""
    tensors = (*backbone.named_parameters(), *backbone.named_buffers())
    shapes = {name: tensor.to("meta") for name, tensor in tensors}
    try:
        with torch.inference_mode():
            torch.func.functional_call(backbone, shapes, (torch.empty(1, 3, side_px, side_px, device="meta"),))
    except Exception as error:  # noqa: BLE001 - models raise any error on shapes that they do not accept
        return error
    return None
