"""The kind of device that the model runs on, "cpu" or "cuda": chosen, sized and opened."""

import os
from collections.abc import Sequence
from typing import Protocol

import torch

from pipeline.config import PipelineConfig
from pipeline.model.cpu import CpuDevice
from pipeline.model.cuda import CudaDevice
from pipeline.model.device import Device
from pipeline.model.device_module import DeviceModule


def resolved_kind(config: PipelineConfig) -> str:
    """The kind of device that the configuration asks for, or for `auto` CUDA where there is some."""
    if config.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return config.device


def resolved_sizes(config: PipelineConfig, device_kind: str) -> tuple[int, int]:
    """Workers and concurrent batches where the configuration leaves them open.

    On CUDA the cores are for decoding; workers give way to what feeds the device. On the CPU each computes a batch, and
    those who decode, which takes about a tenth of the model's time, share them.
    """
    cores = len(os.sched_getaffinity(0))
    if device_kind == "cuda":
        return config.decode_workers or cores, config.concurrent_batches or 1
    return config.decode_workers or max(1, cores // 8), config.concurrent_batches or cores


class OpenDevice(Protocol):
    """What makes a device: `open_device` below, or a function for another kind."""

    def __call__(
        self,
        device_kind: str,
        module: DeviceModule,
        *,
        batch_sizes: Sequence[int],
        side_px: int,
        concurrent_batches: int,
    ) -> Device:
        """The device with the model on it."""


def open_device(
    device_kind: str, module: DeviceModule, *, batch_sizes: Sequence[int], side_px: int, concurrent_batches: int
) -> Device:
    """The device of that kind, "cpu" or "cuda", with the model on it.

    Raises:
        DeviceFailure: there is none, or the model does not fit on it.
    """
    if device_kind == "cpu":
        return CpuDevice(module, batch_sizes, side_px, concurrent_batches)
    return CudaDevice(module, batch_sizes, side_px)
