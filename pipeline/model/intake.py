"""First step of a served model on the device: a batch of inputs as they lie in the slots -> input of the module."""

import torch
from torch import Tensor, nn


class Normalise(nn.Module):
    """Scales and normalises uint8 pixels, so that they stay uint8 until they are on the device.

    Args:
        mean: mean of the pixels in 0..1, per channel.
        std: standard deviation of the pixels in 0..1, per channel.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        means, stds = (torch.tensor(values).view(1, -1, 1, 1) for values in (mean, std))
        self.register_buffer("scale", 1 / (255 * stds))  # (x / 255 - mean) / std in one step
        self.register_buffer("shift", -means / stds)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return float32 [n, 3, height, width] of uint8 [n, height, width, 3]."""
        channels_last = pixels.permute(0, 3, 1, 2)  # [n, 3, height, width] in channels_last, without a copy
        return torch.addcmul(self.shift, channels_last.to(torch.float32), self.scale)


class UnitRange(nn.Module):
    """Scales pixels to 0..1, so that uint8 pixels stay uint8 until they are on the device."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Return float32 [n, 3, height, width] of uint8 [n, height, width, 3]; floats are in 0..1 already."""
        channels_first = pixels.permute(0, 3, 1, 2)
        return channels_first if pixels.is_floating_point() else channels_first.to(torch.float32).div_(255)


class AsItIs(nn.Module):
    """Hands on what a transform of the user's own has made."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the inputs: [n, *shape]."""
        return inputs
