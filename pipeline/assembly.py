"""Assembles the parts of an engine from its configuration: the model, the slots, the device and both stages."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pipeline.config import PipelineConfig
from pipeline.decode.slots import Slots
from pipeline.decode.stage import DecodeStage
from pipeline.input_spec import InputSpec
from pipeline.live_limits import Limits
from pipeline.model.batcher import Batcher
from pipeline.model.callable_transform import CallableTransform, examples, tried
from pipeline.model.device_kind import OpenDevice, loaded_dtype, resolved_kind, resolved_sizes
from pipeline.model.fit_module import device_module
from pipeline.model.known_speeds import KnownSpeeds
from pipeline.model.recognition import on_fast_path
from pipeline.model.reference import COMPARED_IMAGES
from pipeline.model.resize_to_fit import Fit
from pipeline.model.runtime import RuntimeChoice
from pipeline.model.served import Preprocess, ServedModel
from pipeline.model.source import load_model
from pipeline.model.source_kind import SourceKind, source_kind
from pipeline.model.trial import TRIED_IMAGES, try_module
from pipeline.model.warm_up_images import most_pixels
from pipeline.ready_queue import ReadyQueue
from pipeline.records import WorkerTransform

logger = logging.LoggerAdapter(logging.getLogger(__name__), {"stage": "start"})

_MAX_INPUT_BYTES: Final = 512 << 20
"""Memory of all slots together for inputs of the model, beyond which there are fewer slots than configured."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Parts of an engine, not started yet.

    Attributes:
        served: the model, its head and its transform.
        transform: the transform as the workers apply it.
        input_spec: shape and number format of a slot.
        ready: queue between the stages.
        compute: model stage.
        decode: decode stage.
        unlock_pages: function that undoes the page-locking of the slots.
    """

    served: ServedModel
    transform: WorkerTransform
    input_spec: InputSpec
    ready: ReadyQueue
    compute: Batcher
    decode: DecodeStage
    unlock_pages: Callable[[], None]


def loaded(config: PipelineConfig, given: ServedModel | None) -> ServedModel:
    """Load the model, with its transform on the fast path if that is recognised.

    Args:
        config: settings of the model.
        given: a model to use instead of the one that `config` names.
    """
    return on_fast_path(given or load_model(config), config.decode)


class Assembly:
    """Assembles the parts of one engine.

    Args:
        config: settings of the engine.
        given: a model to serve instead of the one that `config` names.
        opener: function that opens the device.
        speeds: folder of this machine for measured speeds, to be read at the next start; None to keep none.

    Attributes:
        device_kind: "cpu" or "cuda".
        decode_workers: number of workers, spare ones not counted.
        concurrent_batches: number of batches that the device computes at a time.
    """

    def __init__(
        self, config: PipelineConfig, given: ServedModel | None, opener: OpenDevice, speeds: Path | None = None
    ) -> None:
        self._config, self._given, self._opener = config, given, opener
        self.device_kind = resolved_kind(config)
        self.decode_workers, self._spares, self.concurrent_batches = resolved_sizes(config, self.device_kind)
        self._known = KnownSpeeds.of(config, self.concurrent_batches, speeds) if speeds and not given else None

    def parts(self, limits: Limits) -> Parts:
        """Load the model and assemble the parts around it.

        Args:
            limits: limits in force at the start.

        Raises:
            InvalidModel: the model cannot be loaded, or fails on a test image.
            DeviceFailure: the device cannot be opened.
        """
        served = loaded(self._config, self._given)
        transform = tried(served.transform)
        served = replace(served, transform=transform)
        level = logging.WARNING if served.transform_is_assumed else logging.INFO
        logger.info("weights: %s", served.weights_from)
        logger.log(level, "transform: %s, from %s", transform, served.transform_from)
        spec = transform.input_spec(self._config) if isinstance(transform, Fit) else transform.input_spec
        choice = self._choice(transform, spec)
        module = device_module(served, loaded_dtype(self.device_kind, choice))
        if not isinstance(transform, Fit) and (self._given or source_kind(self._config.model) is SourceKind.FUNCTION):
            try_module(module, choice.samples[:TRIED_IMAGES])
        slots = self._slots(spec)
        device = self._opener(
            self.device_kind,
            module,
            batch_sizes=self._config.batch_sizes,
            spec=spec,
            concurrent_batches=self.concurrent_batches,
            choice=choice,
        )
        # `batch_size` is 1 until the warm-up has measured the batch sizes.
        ready = ReadyQueue(batch_size=1, concurrent_batches=device.concurrent_batches)
        in_workers = transform.in_workers(self._config)
        return Parts(
            served=served,
            transform=in_workers,
            input_spec=spec,
            ready=ready,
            compute=Batcher(device, served.head, ready, max_batch_size=limits.max_batch_size),
            decode=self._decode_stage(slots, in_workers, ready, limits),
            unlock_pages=device.page_lock(slots.tensor),
        )

    def _decode_stage(self, slots: Slots, transform: WorkerTransform, ready: ReadyQueue, limits: Limits) -> DecodeStage:
        largest = limits.model_copy(update={"max_image_pixels": most_pixels(transform)})
        return DecodeStage(
            self.decode_workers,
            slots,
            transform,
            ready,
            spares=self._spares,
            chunk_bytes=self._config.chunk_bytes,
            decode_timeout_s=self._config.decode_timeout_s,
            limits=largest,  # until the warm-up is done
        )

    def _slots(self, spec: InputSpec) -> Slots:
        """Return the slots: fewer than configured where inputs are large, but enough for two of the largest batches."""
        fitting = max(_MAX_INPUT_BYTES // spec.nbytes, 2 * self._config.largest_batch)
        wanted = self._config.slots
        if fitting < wanted:
            logger.info("slots: %d, not %d, as each takes up to %.1f MB", fitting, wanted, spec.nbytes / 1e6)
        return Slots(min(fitting, wanted), spec)

    def _choice(self, transform: Preprocess | CallableTransform | Fit, spec: InputSpec) -> RuntimeChoice:
        runtime, dtype = self._config.runtime, self._config.dtype
        if not isinstance(transform, Fit):
            return RuntimeChoice(runtime, dtype, examples(transform, COMPARED_IMAGES), self._known)
        # Images of different sizes are computed by torch, and there is nothing to compare.
        named = "torch" if runtime == "auto" else runtime
        return RuntimeChoice(named, "float32" if dtype == "auto" else dtype, spec.zeros(0))
