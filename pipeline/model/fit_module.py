"""The part on the device of a model whose images differ in size: it takes a list of images, not one tensor."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from pipeline.errors import InvalidModel
from pipeline.model.device_module import DeviceModule
from pipeline.model.head_fit import described
from pipeline.model.intake import UnitRange
from pipeline.model.resize_to_fit import Fit
from pipeline.model.served import Head, ServedModel


class FitModule(DeviceModule):
    """Intake, network and head of a model with a `Fit`. Computes in float32.

    Attributes:
        usual_size: width and height of the largest usual input, by which batch sizes are measured.

    Args:
        module: list of images, float [3, height, width] in 0..1 each -> list of outputs, one an image.
        head: reduces the outputs to a few tensors of n rows.
        fit: sizes to which the module pads its images.
    """

    def __init__(self, module: nn.Module, head: Head, fit: Fit) -> None:
        super().__init__(module, head, UnitRange(), torch.float32)
        self._pads_to_px, self.usual_size = fit.pads_to_px, fit.usual_size

    @classmethod
    def of(cls, served: ServedModel, dtype: torch.dtype = torch.float32) -> Self:
        """Return the device's part of a served model with a `Fit`, in evaluation mode.

        Raises:
            InvalidModel: the configuration asks for another number format than float32.
        """
        if not isinstance(served.transform, Fit):
            raise TypeError(f"a {type(served.transform).__name__} makes images of one size; use DeviceModule")
        if dtype is not torch.float32:
            shown = str(dtype).removeprefix("torch.")
            raise InvalidModel(f"dtype: {shown} is not for models whose images differ in size; write dtype: float32")
        return cls(served.module.eval(), served.head, served.transform)

    def outputs(self, pixels: Any) -> Any:
        """Compute the module's outputs for images, without the head.

        Images that the module pads to the same size are computed together, and no others: padding would change what
        the module sees at the edges, and so an answer would depend on the images beside it. (torchvision's detectors
        pad with zeros, and their convolutions have biases.)

        Args:
            pixels: list of n images, [1, height, width, 3], uint8 or float in 0..1.

        Returns:
            A list of n outputs; or one tensor [n, classes], if each of them is a vector of that length.
        """
        images: Sequence[Tensor] = [self.intake(each)[0] for each in pixels]
        groups = defaultdict[tuple[int, ...], list[int]](list)
        for position, image in enumerate(images):
            groups[tuple(-(-side // self._pads_to_px) for side in image.shape[1:])].append(position)
        outputs: list[Any] = [None] * len(images)
        for positions in groups.values():
            found = self.module([images[position] for position in positions])
            if not isinstance(found, list | tuple | Tensor) or len(found) != len(positions):
                raise InvalidModel(
                    f"the module must return a list of {len(positions)} outputs for a list of {len(positions)} images, "
                    f"and returns {described(found)}"
                )
            for position, output in zip(positions, found, strict=True):
                outputs[position] = output
        are_vectors = all(isinstance(output, Tensor) and output.ndim == 1 for output in outputs)
        return torch.stack(outputs) if are_vectors else outputs


def device_module(served: ServedModel, dtype: torch.dtype = torch.float32) -> DeviceModule:
    """Return the device's part of any served model, in evaluation mode, in that number format.

    Raises:
        InvalidModel: a model whose images differ in size is to compute in another format than float32.
    """
    return (FitModule if isinstance(served.transform, Fit) else DeviceModule).of(served, dtype)
