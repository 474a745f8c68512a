"""The protocol of a runtime, a library that computes the model on the CPU, and the records around it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from pipeline.errors import first_line
from pipeline.input_spec import InputSpec
from pipeline.model.agreement import noise
from pipeline.model.device import ComputedAs
from pipeline.model.device_module import DeviceModule
from pipeline.model.known_speeds import KnownSpeeds
from pipeline.model.torchscript import Compute, reads_values, traced


class CannotCompute(Exception):
    """A runtime cannot compute this model on this machine; the message says why, and follows a colon."""


def reason_of(error: Exception) -> str:
    """Return why a runtime cannot compute a model: the message of `CannotCompute`, or a library's own error."""
    return str(error) if isinstance(error, CannotCompute) else first_line(error)


@dataclass(frozen=True, slots=True)
class RuntimeChoice:
    """Runtime and number format as the configuration has them, and inputs on which they are compared.

    Attributes:
        runtime: "auto", or the name of one.
        dtype: "auto", or the name of a number format.
        samples: inputs like those that will be served: [n, *shape].
        known: speeds that earlier starts measured; None to measure them always.
    """

    runtime: str
    dtype: str
    samples: Tensor
    known: KnownSpeeds | None = None

    @property
    def is_settled(self) -> bool:
        """True if there is nothing to compare: torch in one number format."""
        return self.runtime == "torch" and self.dtype != "auto"


class TracedSource:
    """The model that runtimes prepare, in float32 on the CPU, and its trace, which several of them begin with.

    Args:
        module: the model, in evaluation mode.
        spec: its input for one image.
    """

    def __init__(self, module: DeviceModule, spec: InputSpec) -> None:
        self.module, self.spec = module.eval(), spec

    @cached_property
    def trace(self) -> Compute:
        """The model as a frozen TorchScript graph; made once.

        Raises:
            CannotCompute: the model decides by the values of its input, and a trace has one path only.
            Exception: the tracer cannot follow the model; the error may be of any class.
        """
        if reads_values(self.module, noise(1, self.spec, seed=0)):
            raise CannotCompute("the model decides by the values of its input")
        return traced(self.module, self.spec)


class PreparedModel:
    """A model that a runtime has made ready.

    Args:
        module: the model that it was made from; its `named` names the tensors.
        compute: inputs [n, *shape] -> the head's tensors; called by several threads at a time.
        computed_as: description.
    """

    def __init__(self, module: DeviceModule, compute: Compute, computed_as: ComputedAs) -> None:
        self.module, self.compute, self.computed_as = module, compute, computed_as

    def prepare_for(self, images: int) -> None:
        """Make ready for batches of that size, so that no request waits for it. Most runtimes do nothing."""

    def keep_up_to(self, images: int) -> None:
        """Free what is only needed for larger batches, and for preparing more. Most runtimes do nothing."""


class Runtime(Protocol):
    """A library that computes the model on the CPU, for one model."""

    def dtypes(self) -> Sequence[torch.dtype]:
        """Return the number formats that it computes in on this processor.

        Raises:
            CannotCompute: it is not installed, or lacks something on this machine.
        """

    def prepared(self, dtype: torch.dtype, *, if_quick: bool = False) -> PreparedModel:
        """Make the model ready in a number format.

        Args:
            dtype: one of `dtypes`.
            if_quick: whether to give up early if this format is slow on this processor.

        Raises:
            CannotCompute: the format is slow, with `if_quick`.
            Exception: the library cannot follow the model; the error may be of any class.
        """


OpenRuntime = Callable[[TracedSource, int], Runtime]
"""Function that returns a runtime for a model and the number of threads that will compute it at a time."""
