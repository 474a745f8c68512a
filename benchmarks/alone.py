"""Contestants without a server: a plain loop, the pipeline before the stand-in device, and devices alone."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from io import BytesIO

import torch
from PIL import Image

from benchmarks.peers.variants import stand_in
from benchmarks.standin import StandIn, open_stand_in
from harness.throughput import throughput, without_gc
from harness.timing import done_per_s
from pipeline.config import PipelineConfig
from pipeline.engine import Engine
from pipeline.input_spec import InputSpec
from pipeline.model.device import Device, collect
from pipeline.model.device_kind import open_device
from pipeline.model.device_module import DeviceModule
from pipeline.model.source import load_model
from pipeline.pace import DevicePace

Rate = Callable[[Sequence[bytes], float], float]
"""Measures a rate: images and seconds -> images a second."""


@contextmanager
def pipeline(workers: int | None = None, *, together: int = 32, requests: int = 8) -> Iterator[Rate]:
    """Run Darkroom's engine in this process, without Ray and HTTP.

    Args:
        workers: number of decode workers; one for each core by default.
        together: images in one request.
        requests: requests in work at a time.
    """
    workers = workers or len(os.sched_getaffinity(0))
    config = PipelineConfig(device="cpu", decode_workers=workers, spare_workers=0, concurrent_batches=1, max_top_k=10)
    with Engine(config, opener=open_stand_in) as engine, without_gc():
        yield lambda images, for_s: throughput(engine, images, for_s, together=together, requests=requests).per_s


@contextmanager
def loop() -> Iterator[Rate]:
    """Process images one after another, transform and model on one core: the simplest program."""
    from torchvision.models import MobileNet_V2_Weights

    transform = MobileNet_V2_Weights.IMAGENET1K_V1.transforms()

    def classify(data: bytes) -> None:
        transform(Image.open(BytesIO(data)).convert("RGB"))
        stand_in(1)

    yield partial(done_per_s, classify)


@contextmanager
def stand_in_device() -> Iterator[Rate]:
    """Run the stand-in device alone."""
    config = PipelineConfig()
    yield _rate_of(StandIn(config.batch_sizes, config.max_top_k), InputSpec.of_pixels(224))


@contextmanager
def model() -> Iterator[Rate]:
    """Run the model alone on one core, or on CUDA if available: grey images, in batches of the fastest size."""
    config = PipelineConfig()
    loaded = load_model(config)
    spec, kind = loaded.preprocess.input_spec, "cuda" if torch.cuda.is_available() else "cpu"
    module = DeviceModule.of(loaded)
    opened = open_device(kind, module, batch_sizes=config.batch_sizes, spec=spec, concurrent_batches=1)
    yield _rate_of(opened, spec)


def _rate_of(device: Device, spec: InputSpec) -> Rate:
    batch = DevicePace(device.warm_up()).efficient_batch_size
    grey = [spec.zeros(batch) + 127]

    def rate(_: Sequence[bytes], for_s: float) -> float:
        return batch * done_per_s(lambda batches: collect(device.launch(batches)), [grey], for_s)

    return rate
