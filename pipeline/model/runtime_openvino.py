"""The runtime `openvino`: OpenVINO compiles the model's trace for the processor, once for each batch size.

One call computes a batch in the thread that calls, without the interpreter, so it is as independent of a busy event
loop as a TorchScript graph. A model of fixed batch size takes about a fifth less time than one of variable size. So
there is a compiled model for each batch size that the warm-up measures; a batch of another size is computed in parts.

Hazard: OpenVINO reports each import and conversion to its makers over the network, by a process forked from this one.
Guard: its package for that is hidden before the import, so it uses its stub; the trace is converted by OpenVINO's front
end itself.
Test: `tests/pipeline/model/test_runtime_openvino.py::test_nothing_is_reported_to_anyone`.

Hazard: minimum and maximum of the processor drop NaN, so a ReLU may turn a score that overflowed into a finite number.
Guard: a model whose own scores are NaN never agrees, and is computed by torch.
Test: `tests/pipeline/model/test_runtime_openvino.py::test_a_model_whose_scores_are_nan_is_not_taken`.

Hazard: each `openvino.Core` gives its thread a stack for signal handlers. If the first of two is freed before the
second, the second one puts the stack of the first back, which is gone: the next signal ends the process (SIGSEGV).
Guard: a process has one `Core`, and keeps it.
Test: `tests/pipeline/model/test_runtime_openvino.py::test_signals_still_have_a_stack`.
"""

import functools
import sys
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from pipeline.model.device import ComputedAs
from pipeline.model.device_module import DeviceModule, dtype_name
from pipeline.model.runtime import CannotCompute, PreparedModel, TracedSource

if TYPE_CHECKING:
    import openvino

NOT_INSTALLED: Final = "OpenVINO is not installed; type pip install 'darkroom[openvino]'"

_REDUCED: Final = {torch.float16: "FP16", torch.bfloat16: "BF16"}
"""OpenVINO's names of the smaller number formats, which it reports where the processor has instructions for them."""

_HINTS: Final = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}


class OpenVinoRuntime:
    """OpenVINO on the CPU.

    Args:
        source: the model.
        threads: threads that compute at a time, each one batch on one core.
    """

    def __init__(self, source: TracedSource, threads: int) -> None:
        self._source, self._threads = source, threads
        self._converted: openvino.Model | None = None

    def dtypes(self) -> Sequence[torch.dtype]:
        """Return float32, and the smaller number formats that this processor has instructions for.

        Raises:
            CannotCompute: OpenVINO is not installed.
        """
        if not find_spec("openvino"):
            raise CannotCompute(NOT_INSTALLED)
        quick = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return [torch.float32, *(dtype for dtype, name in _REDUCED.items() if name in quick)]

    def prepared(self, dtype: torch.dtype, *, if_quick: bool = False) -> PreparedModel:  # noqa: ARG002
        """Convert the trace; every batch size is compiled when it is asked for.

        Raises:
            Exception: the model cannot be traced, or OpenVINO lacks one of its operators.
        """
        self._converted = self._converted or _converted(self._source)
        settings = {
            # OpenVINO's own choice is bfloat16, where the processor has instructions for it.
            "INFERENCE_PRECISION_HINT": _HINTS[dtype],
            # A stream for each thread of the batcher, on one core and not bound to one: decoders use the cores too.
            "NUM_STREAMS": self._threads,
            "INFERENCE_NUM_THREADS": self._threads,
            "ENABLE_CPU_PINNING": False,
            "ENABLE_HYPER_THREADING": True,
        }
        return _CompiledSizes(self._source.module, self._converted, settings, dtype)


@functools.cache
def _core() -> "openvino.Core":
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # importing it fails then
    import openvino

    return openvino.Core()


def _converted(source: TracedSource) -> "openvino.Model":
    """Return the trace as OpenVINO's model, whose batch size is open."""
    _core()  # the first import
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    pixels = source.spec.zeros(1)
    front_end = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(source.trace)  # must live as long as `model`
    model = front_end.load(decoder)
    (place,) = model.get_inputs()
    model.set_partial_shape(place, openvino.PartialShape([-1, *source.spec.shape]))
    model.set_element_type(place, openvino.Type(pixels.numpy().dtype))
    return front_end.convert(model)


class _CompiledSizes(PreparedModel):
    """The model, compiled for some batch sizes; a batch of another size is computed in parts of these sizes.

    Args:
        module: the model.
        converted: the model as OpenVINO's, whose batch size is open.
        settings: settings of OpenVINO.
        dtype: number format in which the model computes.
    """

    def __init__(
        self, module: DeviceModule, converted: "openvino.Model", settings: dict[str, Any], dtype: torch.dtype
    ) -> None:
        super().__init__(module, self._compute, ComputedAs("OpenVINO", "openvino", dtype_name(dtype)))
        self._converted: openvino.Model | None = converted
        self._settings = settings
        self._compiled: dict[int, openvino.CompiledModel] = {}  # by batch size, descending
        self._of_thread = threading.local()  # infer requests, which serve one thread each
        self.prepare_for(1)  # so that any batch can be computed in parts

    def prepare_for(self, images: int) -> None:
        """Compile the model for that batch size."""
        if images in self._compiled or self._converted is None:
            return
        fixed = self._converted.clone()
        fixed.reshape([images, *[*fixed.inputs[0].partial_shape][1:]])
        self._compiled[images] = _core().compile_model(fixed, "CPU", self._settings)
        self._compiled = dict(sorted(self._compiled.items(), reverse=True))

    def keep_up_to(self, images: int) -> None:
        """Free the models of larger batch sizes, and the one that they were made from."""
        self._compiled = {size: model for size, model in self._compiled.items() if size <= images or size == 1}
        self._converted = None
        self._of_thread = threading.local()

    def _compute(self, pixels: Tensor) -> tuple[Tensor, ...]:
        outputs, done = [], 0
        while done < len(pixels):
            size = next(size for size in self._compiled if size <= len(pixels) - done)
            outputs.append(self._infer(pixels[done : done + size]))
            done += size
        return outputs[0] if len(outputs) == 1 else tuple(map(torch.cat, zip(*outputs, strict=True)))

    def _infer(self, pixels: Tensor) -> tuple[Tensor, ...]:
        requests = vars(self._of_thread)
        if (key := str(len(pixels))) not in requests:
            requests[key] = self._compiled[len(pixels)].create_infer_request()
        request = requests[key]
        # Copied, which takes 0.01 ms for a photograph: a request reads memory that it was given also later.
        request.get_input_tensor().data[:] = pixels.numpy()
        request.infer()
        # The outputs are the request's own memory, which the next batch overwrites.
        return tuple(torch.from_numpy(output.data.copy()) for output in request.output_tensors)
