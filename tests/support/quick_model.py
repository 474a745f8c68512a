"""A model with the usual inputs that is ready at once: a trace of mobilenet_v2 alone takes a second of a core."""

from typing import Final

from torch import nn

from pipeline.model.classify import Classify
from pipeline.model.served import Preprocess, ServedModel

QUICK_MODEL: Final = f"{__name__}:quick_model"
"""The setting `model` that serves it."""


def quick_model() -> ServedModel:
    """Build the model; it takes a few milliseconds for an image."""
    layers = nn.Conv2d(3, 16, 3, stride=2), nn.ReLU(), nn.Conv2d(16, 64, 3), nn.ReLU()
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 20))
    return ServedModel(network.eval(), Preprocess(256, 224), Classify([f"class {n}" for n in range(20)]))
