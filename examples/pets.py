"""A model as a user brings it: his own network, transform and labels, and a function that returns all three."""

from collections.abc import Callable

import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torchvision.transforms.functional import to_tensor

LABELS = ("cat", "dog", "rabbit")


class PetNetwork(nn.Module):
    """A small convolutional network."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU()
        )
        self.classifier = nn.Linear(32 * 4 * 4, classes)
        self.pool = nn.AdaptiveAvgPool2d(4)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [n, classes] of float [n, 3, 96, 96]."""
        pooled = self.pool(self.features(images))
        logits: Tensor = self.classifier(pooled.view(pooled.shape[0], -1))
        return logits


def make_transform(side_px: int) -> Callable[[Image.Image], Tensor]:
    """Return the transform of the training: the whole picture on a grey square, from -1 to 1."""

    def transform(image: Image.Image) -> Tensor:
        pixels: Tensor = to_tensor(ImageOps.pad(image, (side_px, side_px), color="grey"))
        return pixels * 2 - 1

    return transform


def build(seed: int = 0, path: str | None = None) -> tuple[nn.Module, Callable[[Image.Image], Tensor], tuple[str, ...]]:
    """Return the network with weights of a file, or random ones, its transform and its labels."""
    torch.manual_seed(seed)
    network = PetNetwork(len(LABELS))
    if path:
        network.load_state_dict(torch.load(path, weights_only=True))
    return network, make_transform(side_px=96), LABELS
