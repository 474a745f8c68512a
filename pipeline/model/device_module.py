"""The part of a served model that runs on the device, as one module: intake, network and head."""

import copy
from collections.abc import Mapping
from typing import Any, Final, Self

import torch
from torch import Tensor, nn

from pipeline.model.head_fit import checked_rows
from pipeline.model.intake import AsItIs, Normalise
from pipeline.model.saved_module import SavedModule
from pipeline.model.served import Head, Preprocess, ServedModel

DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name of a number format, as in the setting `dtype`."""
    return str(dtype).removeprefix("torch.")


class DeviceModule(nn.Module):
    """Intake, network and head in one module, so that pixels stay uint8 until they are on the device.

    Args:
        module: output of the intake -> input of the head.
        head: reduces the module's output to a few tensors of n rows.
        intake: inputs as they lie in the slots -> input of the module, such as `Normalise`.
        dtype: number format in which the module computes; floats of the intake are converted to it.

    Attributes:
        names: names of the tensors that `forward` returns; known after its first call.
    """

    place: Tensor

    def __init__(self, module: nn.Module, head: Head, intake: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.module = module.to(dtype=dtype)
        self._lay_out(torch.contiguous_format if self.is_saved else torch.channels_last)
        self.head, self.intake, self.dtype, self.names = head, intake, dtype, tuple[str, ...]()
        self.register_buffer("place", torch.empty(0), persistent=False)  # a module may have no tensor of its own

    @classmethod
    def of(cls, served: ServedModel, dtype: torch.dtype = torch.float32) -> Self:
        """Return the device's part of a served model, in evaluation mode, in that number format.

        A saved network keeps the format in which it was saved.
        """
        if isinstance(served.module, SavedModule):
            dtype = served.module.dtype
        return cls(served.module.eval(), served.head, _intake_of(served), dtype)

    def computing_in(self, dtype: torch.dtype) -> Self:
        """Return a copy whose module computes in another number format; a saved network keeps its own."""
        other = copy.deepcopy(self)
        if isinstance(self.module, SavedModule):
            return other
        other.module.to(dtype=dtype)
        other.dtype = dtype
        return other

    def leave_channels_last(self) -> None:
        """Serve the module in torch's usual memory format from now on."""
        self._lay_out(torch.contiguous_format)

    def _lay_out(self, memory_format: torch.memory_format) -> None:
        self._is_plain = memory_format is torch.contiguous_format
        for tensor in (*self.module.parameters(), *self.module.buffers()):
            if tensor.ndim == 4:  # the only tensors that have channels
                tensor.data = tensor.data.contiguous(memory_format=memory_format)

    @property
    def is_saved(self) -> bool:
        """True for a network from a file, which keeps its number format and memory layout."""
        return isinstance(self.module, SavedModule)

    @property
    def own_way(self) -> str | None:
        """Description of how a module is computed that is not to be traced, such as one of ONNX; else None."""
        return self.module.computed_as if isinstance(self.module, SavedModule) else None

    @property
    def device(self) -> torch.device:
        """Device on which the module is."""
        return self.place.device

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Compute the head's tensors for a batch.

        Args:
            pixels: [n, *shape], as they lie in the slots.

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
        inputs = self.intake(pixels)
        if self._is_plain:
            inputs = inputs.contiguous()
        return self.module(inputs.to(self.dtype) if inputs.is_floating_point() else inputs)

    def named(self, rows: tuple[Tensor, ...]) -> Mapping[str, Tensor]:
        """Return the tensors that `forward` has returned, by name."""
        return dict(zip(self.names, rows, strict=True))


def _intake_of(served: ServedModel) -> nn.Module:
    """Return the first step on the device, which goes with the transform of the workers."""
    transform = served.transform
    return Normalise(transform.mean, transform.std) if isinstance(transform, Preprocess) else AsItIs()
