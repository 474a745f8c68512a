"""The runtimes by name, and the choice among them: the quickest one whose scores agree with the model's own.

The quickest runtime depends on model and processor, and so does the quickest number format. So each combination that
the configuration allows is prepared, compared with the model in float32, and timed on one core.
"""

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import torch

from pipeline.errors import InvalidModel
from pipeline.model.device import ComputedAs, DeviceTrial
from pipeline.model.device_module import DTYPES, dtype_name
from pipeline.model.reference import COMPARED_IMAGES, MAX_DIFFERENCE_FROM_FLOAT32, MIN_TIME_SAVED_SHARE, Reference
from pipeline.model.runtime import CannotCompute, OpenRuntime, PreparedModel, RuntimeChoice, TracedSource, reason_of
from pipeline.model.runtime_compile import CompileRuntime
from pipeline.model.runtime_openvino import OpenVinoRuntime
from pipeline.model.runtime_torch import TorchRuntime, as_prepared
from pipeline.pace import warm_seconds

logger = logging.LoggerAdapter(logging.getLogger(__name__), {"stage": "start"})

RUNTIMES: Final[Mapping[str, OpenRuntime]] = {
    "torch": TorchRuntime,
    "openvino": OpenVinoRuntime,
    "compile": CompileRuntime,
}
"""The runtimes of the CPU by their names in the configuration."""

COMPARED_BY_AUTO: Final = ("torch", "openvino")
"""The runtimes among which `auto` chooses; of equally quick ones the first is taken. `compile` takes too long."""

MAX_DIFFERENCE_IN_FLOAT32: Final = 1e-3
"""Largest allowed difference of a score, a probability, between a runtime in float32 and the model itself."""

TIMED_BATCHES: Final = (1, 4)
"""Batch sizes in which an image is timed; the better counts."""

_BUDGET_S: Final = 1.0
"""Seconds that the compared images of a candidate may take: of a model that needs longer, fewer images are compared."""

_BY_EXACTNESS: Final = (torch.float32, torch.float16, torch.bfloat16)
"""Number formats in the order in which they are tried: float16 has 10 fraction bits, bfloat16 has 7."""


def choose(source: TracedSource, choice: RuntimeChoice, threads: int, known: ComputedAs | None = None) -> PreparedModel:
    """Prepare the model in the quickest way that the configuration allows and that agrees with the model itself.

    Limits torch to one thread, here and in later threads.

    Args:
        source: the model in float32.
        choice: runtime and number format as configured.
        threads: threads that compute at a time.
        known: the choice of an earlier start; taken again, without measurements, if it still agrees.

    Raises:
        InvalidModel: the runtime that the configuration names cannot compute the model, or the head does not fit it.
    """
    torch.set_num_threads(1)
    module = source.module
    if module.is_saved:  # it keeps its number format
        choice = replace(choice, dtype=dtype_name(module.dtype))
    if module.own_way or module.dtype is not torch.float32:
        if choice.runtime not in ("auto", "torch"):
            why = f"it comes from a file, and is computed as {module.own_way or choice.dtype}"
            raise InvalidModel(f"runtime: {choice.runtime} cannot compute this model: {why}; write runtime: auto")
        return as_prepared(source)
    if choice.is_settled:
        return TorchRuntime(source, threads).prepared(DTYPES[choice.dtype])
    search = _Search(source, choice, threads)
    if known and (same := search.same(known)):
        logger.info("the model is computed as before: as %s, in %s", known.way, known.dtype)
        return same
    for name, dtype in search.candidates():
        search.consider(name, dtype)
    best = search.best
    if best is None:
        why = search.trials[-1].refused
        raise InvalidModel(f"runtime: {choice.runtime} cannot compute this model: {why}; write runtime: auto")
    best.computed_as = replace(best.computed_as, trials=tuple(search.trials))
    logger.info("the model is computed as %s, in %s", best.computed_as.way, best.computed_as.dtype)
    return best


class _Search:
    """Tries candidates one after the other and keeps the best.

    Attributes:
        best: the quickest so far that agrees; of equally quick ones the first. None before there is one.
        trials: all that were tried.
    """

    def __init__(self, source: TracedSource, choice: RuntimeChoice, threads: int) -> None:
        names = COMPARED_BY_AUTO if choice.runtime == "auto" else (choice.runtime,)
        self._runtimes = {name: RUNTIMES[name](source, threads) for name in names}
        self._dtype_is_open = choice.dtype == "auto"
        self._dtypes = _BY_EXACTNESS if self._dtype_is_open else (DTYPES[choice.dtype],)
        began_at, few = time.perf_counter(), choice.samples[:2]
        with torch.inference_mode():
            source.module(few)
        affordable = int(_BUDGET_S * len(few) / (time.perf_counter() - began_at))
        self._samples = choice.samples[: max(1, min(COMPARED_IMAGES, affordable))]
        self._timed_batches = [images for images in TIMED_BATCHES if images <= max(1, len(self._samples) // 2)]
        self._reference = Reference(source.module, self._samples)
        self._best_s = math.inf
        self.best: PreparedModel | None = None
        self.trials: list[DeviceTrial] = []

    def candidates(self) -> Iterator[tuple[str, torch.dtype]]:
        """Yield runtimes and number formats, the more exact formats first."""
        usable = {name: dtypes for name in self._runtimes if (dtypes := self._usable(name))}
        for dtype in self._dtypes:
            yield from ((name, dtype) for name, dtypes in usable.items() if dtype in dtypes)

    def _usable(self, name: str) -> Sequence[torch.dtype]:
        """Return the number formats of a runtime; empty if it cannot compute this model here, with a note of it."""
        try:
            dtypes = self._runtimes[name].dtypes()
            if not set(dtypes) & set(self._dtypes):
                raise CannotCompute(f"this processor has no instructions for {dtype_name(self._dtypes[0])}")
        except CannotCompute as error:
            self._note(DeviceTrial(name, dtype_name(self._dtypes[0]), refused=str(error)))
            return ()
        return dtypes

    def same(self, known: ComputedAs) -> PreparedModel | None:
        """Prepare what an earlier start has chosen; return None if that does not agree any more."""
        dtype = DTYPES.get(known.dtype)
        if known.runtime not in self._runtimes or dtype is None or dtype not in self._dtypes:
            return None
        try:
            prepared, _ = self._agreeing(known.runtime, dtype)
        except InvalidModel:
            raise
        except Exception as error:  # noqa: BLE001 - a library that cannot follow the model raises anything
            logger.warning("%s is not taken again: %s", known.way, reason_of(error))
            return None
        prepared.computed_as = known
        return prepared

    def consider(self, name: str, dtype: torch.dtype) -> None:
        """Prepare, compare and time a candidate; take it if it agrees and saves time."""
        began_at, trial = time.perf_counter(), DeviceTrial(name, dtype_name(dtype))
        try:
            prepared, worst = self._agreeing(name, dtype)
            trial = replace(trial, prepare_s=time.perf_counter() - began_at, difference=worst)
            image_s = self._image_s(prepared)
        except InvalidModel:
            raise
        except Exception as error:  # a library that cannot follow the model raises anything
            if self._is_model_itself(name, dtype):
                raise
            self._note(replace(trial, refused=reason_of(error)))
            return
        self._note(replace(trial, image_s=image_s))
        if image_s < (1 - MIN_TIME_SAVED_SHARE) * self._best_s:
            self.best, self._best_s = prepared, image_s

    def _agreeing(self, name: str, dtype: torch.dtype) -> tuple[PreparedModel, float | None]:
        """Return a candidate and the largest difference of its scores from the model's own in float32.

        A number format that the configuration names is not compared with float32, but the runtime is.

        Raises:
            CannotCompute: the candidate does not agree.
        """
        runtime = self._runtimes[name]
        if not self._dtype_is_open and dtype is not torch.float32 and name != "torch":
            self._difference(runtime.prepared(torch.float32), MAX_DIFFERENCE_IN_FLOAT32)
        prepared = runtime.prepared(dtype, if_quick=self._dtype_is_open)
        if self._is_model_itself(name, dtype):
            return prepared, None
        in_float32 = dtype is torch.float32
        reduced = MAX_DIFFERENCE_FROM_FLOAT32 if self._dtype_is_open else math.inf
        return prepared, self._difference(prepared, MAX_DIFFERENCE_IN_FLOAT32 if in_float32 else reduced)

    def _is_model_itself(self, name: str, dtype: torch.dtype) -> bool:
        """Return whether a candidate is what all others are compared with: torch has compared it already."""
        return name == "torch" and (dtype is torch.float32 or not self._dtype_is_open)

    def _difference(self, prepared: PreparedModel, limit: float) -> float:
        with torch.inference_mode():
            parts = [prepared.compute(pixels) for pixels in (self._samples[:1], self._samples[1:]) if len(pixels)]
        rows = prepared.module.named(tuple(map(torch.cat, zip(*parts, strict=True))))
        worst = self._reference.difference(rows)
        if not worst <= limit:  # also if it is NaN
            raise CannotCompute(f"its scores differ by up to {worst:.2g}, more than {limit:g}")
        return worst

    def _image_s(self, prepared: PreparedModel) -> float:
        """Time an image, in the better of the batch sizes tried."""
        taken_s = []
        for images in self._timed_batches:
            pixels = self._samples[:images]
            prepared.prepare_for(len(pixels))
            with torch.inference_mode():
                taken_s.append(warm_seconds(partial(prepared.compute, pixels)) / len(pixels))
        return min(taken_s)

    def _note(self, trial: DeviceTrial) -> None:
        """Keep a trial, and log it beside the best one so far."""
        self.trials.append(trial)
        ratio = f", {trial.image_s / self._best_s:.2f} times the best so far" if trial.image_s and self.best else ""
        logger.info("%s%s", trial, ratio)
