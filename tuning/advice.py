"""What holds the chosen settings back, and what would change it: a sentence each."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from pipeline.config import PipelineConfig
from tuning.capacity import Cell, Costs, cell

_REST: Final = "HTTP and what they cost each other"
"""Beside the model and the workers all is slower than by itself, and they are too."""

_NAMES: Final = {"decoding": "decoding", "device": "the device", "cores": "the cores"}


def advice(chosen: Cell, costs: Costs, config: PipelineConfig) -> list[str]:
    """The bottleneck first.

    Args:
        chosen: the combination.
        costs: what was measured.
        config: of the pipeline that was measured.
    """
    return [_bottleneck(chosen, costs), *_remedies(chosen, costs, config)]


def parts_s(chosen: Cell, costs: Costs) -> dict[str, float]:
    """Seconds of a core that an image takes, by what for."""
    parts = {"decoding": costs.decode.alone_s, _REST: costs.serving_s}
    if costs.on_cpu:
        parts["the model"] = costs.compute.seconds(chosen.lanes, chosen.batch) / chosen.batch
    return parts


def _bottleneck(chosen: Cell, costs: Costs) -> str:
    if chosen.bound_by == "decoding":
        words = f"{chosen.workers} worker{'s' if chosen.workers > 1 else ''} decode {chosen.peak:.3g} images/s"
        return f"decode-bound: {words}, and the device could take {chosen.limits['device']:.3g}"
    if chosen.bound_by == "device":
        words = f"it computes {chosen.peak:.3g} images/s, and the workers could decode {chosen.limits['decoding']:.3g}"
        return f"device-bound: {words}"
    parts = sorted(parts_s(chosen, costs).items(), key=lambda part: -part[1])
    spent = ", ".join(f"{1000 * seconds:.3g} ms for {part}" for part, seconds in parts)
    return f"bound by the {costs.cores} cores: an image takes {spent}"


def _remedies(chosen: Cell, costs: Costs, config: PipelineConfig) -> Iterator[str]:
    if chosen.bound_by == "cores" or costs.on_cpu:
        twice = cell(replace(costs, cores=2 * costs.cores), chosen.workers, chosen.lanes, chosen.batch, 1.0)
        part = min(twice.limits, key=lambda part: twice.limits[part])
        until = "" if part == "cores" else f", where {_NAMES[part]} would be the limit of these workers and lanes"
        yield f"twice the cores would do {twice.peak / chosen.peak:.3g} times as much{until}"
    parts = parts_s(chosen, costs)
    if chosen.bound_by == "device" or parts.get("the model", 0.0) >= max(parts.values()):
        if config.dtype == "float32":
            yield "the model computes in float32: `dtype: auto` takes a quicker one where the scores agree"
        if costs.on_cpu:
            yield "a GPU would take the model off the cores, or a smaller model would cost less of them"
    if (chosen.bound_by == "decoding" or parts["decoding"] >= max(parts.values())) and config.decode == "exact":
        yield "`decode: fast` decodes JPEGs at a reduced size where that is large enough"
    if parts[_REST] >= max(parts.values()):
        yield "what comes with HTTP takes the most: several images a request share what a request costs"
