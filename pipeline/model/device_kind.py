"""Chooses and opens the kind of device that the model runs on, "cpu" or "cuda"."""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import torch

from pipeline.config import PipelineConfig
from pipeline.errors import DeviceFailure, InvalidModel
from pipeline.input_spec import InputSpec
from pipeline.model.cpu import CpuDevice
from pipeline.model.cuda import CudaDevice
from pipeline.model.device import Device
from pipeline.model.device_module import DTYPES, DeviceModule
from pipeline.model.eager_device import EagerDevice
from pipeline.model.fit_module import FitModule
from pipeline.model.precision import quickest
from pipeline.model.runtime import RuntimeChoice
from pipeline.usable_cores import usable_cores


def resolved_kind(config: PipelineConfig) -> str:
    """Return the kind of device in the configuration; for `auto`, "cuda" if available, else "cpu"."""
    if config.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return config.device


MOST_WORKERS: Final = 32
"""Number of workers that spare ones do not exceed by default: they decode what the Python of a replica can hand on."""


class EngineSizes(NamedTuple):
    """Numbers of an engine's decoder processes and model threads."""

    decode_workers: int
    spare_workers: int
    concurrent_batches: int


def resolved_sizes(config: PipelineConfig, device_kind: str) -> EngineSizes:
    """Return the numbers of workers and of concurrent batches, with defaults for settings that are None.

    On CUDA every core decodes; workers have a lower priority than the threads that feed the device. On the CPU every
    core computes a batch; decoding, which takes about a tenth of the model's time, shares the cores.
    """
    cores = usable_cores()
    if device_kind == "cuda":
        workers, batches = config.decode_workers or cores, config.concurrent_batches or 1
        return EngineSizes(workers, resolved_spares(config.spare_workers, workers, 1), batches)
    workers, batches = config.decode_workers or max(1, cores // 8), config.concurrent_batches or cores
    return EngineSizes(workers, resolved_spares(config.spare_workers, workers, batches), batches)


def resolved_spares(spares: int | None, workers: int, concurrent_batches: int) -> int:
    """Return the number of spare workers; the default lets costly images use every core that computes batches.

    One worker more stays free for ordinary images. There is at least one spare worker.
    """
    if spares is not None:
        return spares
    return max(1, min(concurrent_batches + 1, MOST_WORKERS) - workers)


class OpenDevice(Protocol):
    """Function that opens a device: `open_device` below, or one for another kind of device."""

    def __call__(
        self,
        device_kind: str,
        module: DeviceModule,
        *,
        batch_sizes: Sequence[int],
        spec: InputSpec,
        concurrent_batches: int,
        choice: RuntimeChoice | None = None,
    ) -> Device:
        """Return the device with the model on it."""


def open_device(
    device_kind: str,
    module: DeviceModule,
    *,
    batch_sizes: Sequence[int],
    spec: InputSpec,
    concurrent_batches: int,
    choice: RuntimeChoice | None = None,
) -> Device:
    """Return the device of a kind, "cpu" or "cuda", with the model on it.

    Args:
        device_kind: "cpu" or "cuda".
        module: the model.
        batch_sizes: the sizes to warm up, ascending.
        spec: input of the module for one image.
        concurrent_batches: number of batches that a CPU computes at a time.
        choice: runtime and number format as configured; None for torch and the format that the module has.

    Raises:
        DeviceFailure: there is no such device, it has no such runtime, or the model does not fit into its memory.
        InvalidModel: the configured runtime cannot compute a model for images of different sizes.
    """
    if isinstance(module, FitModule):
        if choice and choice.runtime != "torch":
            named = f"runtime: {choice.runtime}"
            raise InvalidModel(f"{named} cannot compute images of different sizes; write runtime: auto")
        width, height = module.usual_size
        usual = torch.zeros((1, height, width, 3), dtype=spec.dtype)
        return EagerDevice(device_kind, module, batch_sizes, usual, concurrent_batches)
    if device_kind == "cpu":
        return CpuDevice(module, batch_sizes, spec, concurrent_batches, choice)
    if choice and choice.runtime == "openvino":
        raise DeviceFailure("runtime: openvino computes on the CPU only; write runtime: auto, or device: cpu")
    if choice and choice.dtype == "auto":
        module = quickest(module, choice.samples, batch_sizes[-1])
    return CudaDevice(module, batch_sizes, spec, compiles=bool(choice and choice.runtime == "compile"))


def loaded_dtype(device_kind: str, choice: RuntimeChoice) -> torch.dtype:
    """Return the number format in which the device expects the module.

    A comparison begins with float32, and so do the runtimes of the CPU, which convert the weights themselves.
    """
    if device_kind == "cpu" and not choice.is_settled:
        return torch.float32
    return DTYPES.get(choice.dtype, torch.float32)
