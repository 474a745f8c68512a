"""Loads ONNX files, computed by ONNX Runtime.

On a CPU each batch is computed in the thread that asks for it, as in torch. The code for CUDA has never run on a GPU.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.errors import InvalidModel, first_line
from pipeline.model.saved_module import ANY_BATCH, BatchSizes, SavedModule, side_of

KIND: Final = "an ONNX file"

_FORMATS: Final = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16, "tensor(uint8)": torch.uint8}
"""Number formats of inputs that are served."""

_ERRORS_ONLY: Final = 3
"""Level of ONNX Runtime's log, which it writes to standard error."""


class OnnxSession(nn.Module):
    """Computes an ONNX network: float [n, 3, side, side] -> its output, or a dict of all its outputs by name.

    Args:
        session: `onnxruntime.InferenceSession`. Threads may call it at the same time.
        dtype: number format of its input.
        channels_last: whether its input is [n, side, side, 3].
    """

    def __init__(self, session: Any, dtype: torch.dtype, *, channels_last: bool) -> None:
        super().__init__()
        self._session, self._dtype, self._channels_last = session, dtype, channels_last
        self._input = session.get_inputs()[0].name
        self._outputs = [output.name for output in session.get_outputs()]

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        """Return the same object: a session has no state that a call changes."""
        return self

    def forward(self, images: Tensor) -> Tensor | dict[str, Tensor]:
        """Compute the outputs of a batch, on the device on which the images are."""
        if self._channels_last:
            images = images.permute(0, 2, 3, 1).contiguous()
        images = images.round().to(self._dtype) if self._dtype is torch.uint8 else images.to(self._dtype)
        rows = self._on_cuda(images) if images.is_cuda else self._session.run(None, {self._input: images.numpy()})
        outputs = {name: torch.from_numpy(row).to(images.device) for name, row in zip(self._outputs, rows, strict=True)}
        return outputs if len(outputs) > 1 else outputs[self._outputs[0]]

    def _on_cuda(self, images: Tensor) -> Sequence[Any]:
        """Compute a batch that is in the device's memory; the outputs, which are small, come back to the host."""
        binding = self._session.io_binding()
        element = np.dtype(str(images.dtype).removeprefix("torch."))
        at = images.device.index or 0
        binding.bind_input(self._input, "cuda", at, element, tuple(images.shape), images.data_ptr())
        for name in self._outputs:
            binding.bind_output(name)
        torch.cuda.current_stream().synchronize()  # the session has a stream of its own
        self._session.run_with_iobinding(binding)
        outputs: Sequence[Any] = binding.copy_outputs_to_cpu()
        return outputs


def onnx_network(path: Path, named: str, device_kind: str) -> SavedModule:
    """Load an ONNX file.

    Args:
        path: path of the file; ONNX Runtime reads files with external weights beside it.
        named: name of the model, for messages.
        device_kind: "cpu" or "cuda".

    Raises:
        InvalidModel: ONNX Runtime is not installed, cannot load the file, or the network does not take images.
    """
    session = _session(path, named, device_kind)
    inputs = session.get_inputs()
    shape = [size if isinstance(size, int) and size > 0 else None for size in inputs[0].shape] if inputs else []
    if len(inputs) != 1 or len(shape) != 4:
        taken = ", ".join(f"{each.name} {each.shape}" for each in inputs) or "nothing"
        raise InvalidModel(
            f"{named} takes {taken}; Darkroom gives a network one batch of images, [n, 3, height, width]"
        )
    dtype = _FORMATS.get(inputs[0].type)
    if not dtype:
        raise InvalidModel(f"{named} takes {inputs[0].type}; Darkroom gives a network {', '.join(_FORMATS)}")
    channels_last = shape[3] == 3 and shape[1] != 3
    batch, *sizes = shape if not channels_last else [shape[0], shape[3], shape[1], shape[2]]
    return SavedModule(
        OnnxSession(session, dtype, channels_last=channels_last),
        KIND,
        sizes=BatchSizes(batch, batch) if batch else ANY_BATCH,
        side_px=side_of(sizes, named),
        dtype=torch.float32 if dtype is torch.uint8 else dtype,
        of_bytes=dtype is torch.uint8,
        computed_as="ONNX Runtime" + (f", {batch} images at a time" if batch else ""),
    )


def _session(path: Path, named: str, device_kind: str) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise InvalidModel(
            f"{named} needs ONNX Runtime, which is not installed; type pip install 'darkroom[onnx]'"
        ) from error
    providers: list[Any] = ["CPUExecutionProvider"]
    if device_kind == "cuda":
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise InvalidModel(
                f"{named}: the ONNX Runtime that is installed has no CUDA; type pip uninstall onnxruntime && pip "
                "install onnxruntime-gpu, or write device: cpu"
            )
        providers.insert(0, ("CUDAExecutionProvider", {"use_tf32": "0"}))  # float32 means full precision
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _ERRORS_ONLY
    try:
        session = onnxruntime.InferenceSession(os.fspath(path), options, providers=providers)
    except Exception as error:  # a damaged file raises any of the runtime's errors
        raise InvalidModel(f"{named} cannot be loaded by ONNX Runtime: {first_line(error)}") from error
    if device_kind == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
        raise InvalidModel(f"{named}: ONNX Runtime cannot use CUDA here, as its log says; write device: cpu")
    return session
