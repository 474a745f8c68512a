"""Sizes of images that a model takes."""

import torch
from torch import nn

from pipeline.errors import InvalidModel, first_line
from pipeline.torchvision_models import WeightsEnum


def check_size(backbone: nn.Module, model: str, crop_px: int, weights: WeightsEnum | None) -> None:
    """Sees to it that a model takes images of a size that is not its usual one, before anything is started.

    Shapes alone are computed, on torch's meta device, which takes less than a second for the largest models. A model
    that cannot be computed so is left to the warm-up.

    Args:
        backbone: in evaluation mode.
        model: its name.
        crop_px: side of the images.
        weights: of torchvision's, which say what is usual.

    Raises:
        InvalidModel: it takes the usual size, and not this one.
    """
    usual_px = int(weights.transforms().crop_size[0]) if weights else 224
    if crop_px == usual_px or not (refusal := _refusal(backbone, crop_px)) or _refusal(backbone, usual_px):
        return
    raise InvalidModel(
        f"crop_px: {crop_px} is a size that model: {model} does not take ({first_line(refusal)}); it takes crop_px: "
        f"{usual_px}"
    ) from refusal


def _refusal(backbone: nn.Module, side_px: int) -> Exception | None:
    tensors = (*backbone.named_parameters(), *backbone.named_buffers())
    shapes = {name: tensor.to("meta") for name, tensor in tensors}
    try:
        with torch.inference_mode():
            torch.func.functional_call(backbone, shapes, (torch.empty(1, 3, side_px, side_px, device="meta"),))
    except Exception as error:  # noqa: BLE001 - models raise anything on shapes that they do not take
        return error
    return None
