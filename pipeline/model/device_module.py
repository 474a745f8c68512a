"""The part of a served model that runs on the device, as one module: normalisation, network and head."""

import copy
from collections.abc import Mapping
from typing import Any, Final, Self

import torch
from torch import Tensor, nn

from pipeline.model.head_fit import checked_rows
from pipeline.model.served import Head, ServedModel

DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class DeviceModule(nn.Module):
    """Normalisation, network and head in one module, so that pixels stay uint8 until they are on the device.

    Args:
        module: float [n, 3, side, side] -> input of the head.
        head: reduces the module's output to a few tensors of n rows.
        mean: mean of the pixels in 0..1, per channel.
        std: standard deviation of the pixels in 0..1, per channel.
        dtype: number format in which the module computes.

    Attributes:
        names: names of the tensors that `forward` returns; known after its first call.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self, module: nn.Module, head: Head, mean: tuple[float, ...], std: tuple[float, ...], dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.module = module.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.head, self.dtype, self.names = head, dtype, tuple[str, ...]()
        means, stds = (torch.tensor(values).view(1, -1, 1, 1) for values in (mean, std))
        self.register_buffer("scale", 1 / (255 * stds))  # (x / 255 - mean) / std in one step
        self.register_buffer("shift", -means / stds)

    @classmethod
    def of(cls, served: ServedModel, dtype: torch.dtype = torch.float32) -> Self:
        """Return the device's part of a served model, in evaluation mode, in that number format."""
        return cls(served.module.eval(), served.head, served.transform.mean, served.transform.std, dtype)

    def computing_in(self, dtype: torch.dtype) -> Self:
        """Return a copy whose module computes in another number format."""
        other = copy.deepcopy(self)
        other.module.to(dtype=dtype)
        other.dtype = dtype
        return other

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Compute the head's tensors for a batch.

        Args:
            pixels: uint8 [n, side, side, 3].

        Returns:
            Tensors of n rows, in the order of `names`.

        Raises:
            InvalidModel: at the first call, the head does not fit the module.
        """
        outputs = self.outputs(pixels)
        rows = self.head.on_device(outputs) if self.names else checked_rows(self.head, outputs, len(pixels))
        self.names = tuple(rows)
        return tuple(rows.values())

    def outputs(self, pixels: Tensor) -> Any:
        """Compute the module's output for the same pixels, without the head."""
        channels_last = pixels.permute(0, 3, 1, 2)  # [n, 3, side, side] in channels_last, without a copy
        normalised = torch.addcmul(self.shift, channels_last.to(torch.float32), self.scale)
        return self.module(normalised.to(self.dtype))

    def named(self, rows: tuple[Tensor, ...]) -> Mapping[str, Tensor]:
        """Return the tensors that `forward` has returned, by name."""
        return dict(zip(self.names, rows, strict=True))
