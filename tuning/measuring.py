"""Measurements without the service: decoding with more and more workers, the model with larger batches."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

from harness.throughput import without_gc
from tuning.capacity import Costs
from tuning.computing import MeasuredModel
from tuning.decoding import Decoders
from tuning.derived_settings import Sizes
from tuning.findings import Findings
from tuning.forecast import Refused
from tuning.plan import TRANSFORM_MEASURING_S, Plan, worker_counts
from tuning.step import Step, number
from tuning.transform_gain import measured_gain
from tuning.tuned_config import TunedConfig


class Measuring:
    """Plans and runs the measurements without the service.

    Args:
        tuned: the configuration to tune.
        named: encoded images by name.
        plan: extent of the measurements.
        findings: results, filled during the run.
        stack: closes resources at the end of the run.
        before_all: inserts steps before the remaining ones.

    Attributes:
        images: images that can be decoded, once read.
        model: the model, once loaded.
    """

    model: MeasuredModel

    def __init__(
        self,
        tuned: TunedConfig,
        named: Mapping[str, bytes],
        plan: Plan,
        findings: Findings,
        stack: ExitStack,
        before_all: Callable[[Sequence[Step]], None],
    ) -> None:
        self._tuned, self._named, self._plan, self._findings = tuned, named, plan, findings
        self._stack, self._before_all = stack, before_all
        self._decoders = Decoders(tuned.config.pipeline, tuned.live)
        self.images: Sequence[bytes] = ()

    @property
    def steps(self) -> list[Step]:
        """All steps; the last one adds others once the model is loaded."""
        return [
            Step("reading the images", 3.0, self._read),
            Step("loading the model", 3.0, self._load_model),
            Step("measuring decoding and the model", self._plan.measuring_s, self._plan_parts),
        ]

    def _read(self) -> None:
        found = self._decoders.readable(self._named)
        self.images, self._findings.unreadable = found.images, [*self._findings.unreadable, *found.faults]
        if not found.images:
            several = len(self._named) > 1
            what = f"none of the {len(self._named)} images can be decoded; the first" if several else "it is no image"
            raise Refused(f"{what}: {found.faults[0]}")
        self._findings.images, self._findings.sizes = len(found.images), Sizes.of(found.images)

    def _load_model(self) -> None:
        tuned, findings = self._tuned, self._findings
        concurrent_batches = tuned.cores if tuned.on_cpu else 1
        self.model = MeasuredModel(
            tuned.config.pipeline, concurrent_batches, self.images, tuned.live.max_image_pixels, findings.asked_s
        )
        self._stack.callback(self.model.close)
        self._stack.enter_context(without_gc())
        findings.model = f"{tuned.config.pipeline.model}, {self.model.dtype}"
        findings.costs = Costs(
            self._decoders.cost,
            self.model.cost,
            tuned.cores,
            tuned.on_cpu,
            images_per_request=findings.images_per_request,
        )

    def _plan_parts(self) -> None:
        plan, model = self._plan, self.model
        own = [Step("the transform", TRANSFORM_MEASURING_S, self._measure_transform)] if model.own_transform else []
        self._before_all(
            [
                *own,
                *(self._decoding(workers) for workers in worker_counts(self._tuned.cores)),
                Step("decoding, images handed over one by one", plan.decoding_s, self._measure_one_by_one),
                *(
                    self._computing(concurrent_batches, images)
                    for _ in range(plan.turns)
                    for images in model.sizes
                    for concurrent_batches in model.concurrent_batches  # these are compared: one right after the other
                ),
            ]
        )

    def _measure_transform(self) -> None:
        transform, config = self.model.own_transform, self._tuned.config.pipeline
        if transform is not None:
            most_pixels = self._tuned.live.max_image_pixels
            self._findings.transform = measured_gain(transform, config, self.images, most_pixels)

    def _decoding(self, workers: int) -> Step:
        act = partial(self._decoders.measure, workers, self.images, self._plan.decode_s)
        return Step(f"decoding with {number(workers, 'worker')}", self._plan.decoding_s, act)

    def _measure_one_by_one(self) -> None:
        self._decoders.measure_one_by_one(self.images, self._plan.decode_s)

    def _computing(self, concurrent_batches: int, images: int) -> Step:
        act = partial(self.model.measure, concurrent_batches, images, self._plan.batch_s)
        at_a_time = f", {concurrent_batches} at a time" if concurrent_batches > 1 else ""
        return Step(f"the model with batches of {number(images, 'image')}{at_a_time}", self._plan.batch_s, act)
