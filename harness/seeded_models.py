"""torchvision's detectors and segmentation models with seeded random weights, whose outputs depend on the image.

Weights as initialised would let the activations fade from layer to layer, until all images look the same. So batch norm
gets the statistics of a photograph, and the last layers larger weights.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torchvision import models
from torchvision.transforms._presets import ObjectDetection, SemanticSegmentation
from torchvision.transforms.functional import pil_to_tensor

from harness.photographs import photograph

_LAST_LAYERS: Final = ("cls_score", "cls_logits", "classification_head.module_list.", "low_classifier")
_LAST_LAYERS_GAIN: Final = {"ssdlite320_mobilenet_v3_large": 1.0}
_USUAL_GAIN: Final = 8.0


def untrained(name: str, classes: int) -> nn.Module:
    """Return a model as torchvision builds it without weights, in evaluation mode."""
    module: nn.Module = models.get_model(name, weights=None, weights_backbone=None, num_classes=classes)
    return module.eval()


@functools.cache
def seeded_state(name: str, classes: int) -> Mapping[str, Tensor]:
    """Return a state dict of the model; the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = untrained(name, classes)
    norms = [each for each in module.modules() if isinstance(each, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    images = [pil_to_tensor(photograph(subject).resize((320, 240))) / 255 for subject in ("cat", "temple")]
    with torch.inference_mode():
        module(images if hasattr(module, "transform") else torch.stack(images))
        for parameter_name, parameter in module.named_parameters():
            if any(layer in parameter_name for layer in _LAST_LAYERS):
                parameter.mul_(_LAST_LAYERS_GAIN.get(name, _USUAL_GAIN))
    return {key: value.clone() for key, value in module.state_dict().items()}


def seeded_file(folder: Path, name: str, classes: int) -> Path:
    """Write the state dict to a file in a folder, and return its path."""
    path = folder / f"{name}.pth"
    torch.save(seeded_state(name, classes), path)
    return path


@functools.cache
def seeded_model(name: str, classes: int) -> nn.Module:
    """Return the model with its seeded weights; the same object each time."""
    module = untrained(name, classes)
    module.load_state_dict(seeded_state(name, classes))
    return module


def detections_alone(name: str, classes: int, image: Image.Image) -> tuple[NDArray[np.float32], list[float], list[int]]:
    """Return boxes, scores and classes that the model alone finds, used as torchvision's documentation says.

    https://docs.pytorch.org/vision/stable/models.html#object-detection
    """
    batch = [ObjectDetection()(image)]
    with torch.inference_mode():
        prediction = seeded_model(name, classes)(batch)[0]
    return prediction["boxes"].numpy(), prediction["scores"].tolist(), prediction["labels"].tolist()


def mask_alone(name: str, classes: int, image: Image.Image, resize_px: int) -> NDArray[np.uint8]:
    """Return the class of each pixel of the model's input, computed as torchvision's documentation says.

    https://docs.pytorch.org/vision/stable/models.html#semantic-segmentation
    """
    batch = SemanticSegmentation(resize_size=resize_px)(image).unsqueeze(0)
    with torch.inference_mode():
        prediction = seeded_model(name, classes)(batch)["out"]
    best: NDArray[np.uint8] = prediction.softmax(dim=1).argmax(1)[0].to(torch.uint8).numpy()
    return best
