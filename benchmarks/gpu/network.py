"""The measured models: uint8 pixels on the GPU -> best classes, as the service computes them."""

from typing import Final

import torch
from torch import Tensor, nn

from pipeline.model.classify import Classify
from pipeline.model.device_module import DeviceModule
from pipeline.model.intake import Normalise
from pipeline.model.served import IMAGENET_MEAN, IMAGENET_STD

NUMBER_FORMATS: Final = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
"""Number formats; tf32 is float32 in memory, multiplied with ten bits of fraction."""

_TOP_K: Final = 10


def network(name: str, form: str) -> DeviceModule:
    """Make a classification model of torchvision with random weights; its speed does not depend on them.

    Args:
        name: torchvision's name of the model.
        form: one of `NUMBER_FORMATS`.
    """
    import torchvision

    torch.manual_seed(0)
    backbone: nn.Module = torchvision.models.get_model(name, weights=None).eval()
    intake = Normalise(IMAGENET_MEAN, IMAGENET_STD)
    return DeviceModule(backbone, Classify((), _TOP_K), intake, NUMBER_FORMATS[form]).cuda().eval()


def compute_in(form: str) -> None:
    """Set torch's switches for a number format, in this process."""
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = form == "tf32"


def pixels_of(images: int, side_px: int = 224) -> Tensor:
    """Make noise on the GPU: uint8 [images, side_px, side_px, 3]."""
    return torch.randint(0, 256, (images, side_px, side_px, 3), dtype=torch.uint8, device="cuda")
