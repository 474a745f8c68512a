"""Sentences on the bottleneck and on what would remove it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from pipeline.config import PipelineConfig
from tuning.capacity import Cell, Costs, cell
from tuning.step import number

_REMAINDER_NAME: Final = "HTTP, Ray and waiting"
"""Time of an image beside decoding and the model; parts that share the cores also slow each other down."""

_MIN_NAMED_SHARE: Final = 0.01
"""Share of an image's time below which a part is not named."""

_PART_NAMES: Final = {
    "decoding": "decoding",
    "device": "the model's device",
    "cores": "the cores",
    "HTTP": "the event loop that reads and writes HTTP",
}


def advice(chosen: Cell, costs: Costs, config: PipelineConfig) -> list[str]:
    """List sentences: the bottleneck, then what would help.

    Args:
        chosen: the combination.
        costs: the measured costs.
        config: settings of the measured pipeline.
    """
    return [f"Bottleneck: {_bottleneck(chosen, costs)}", *_remedies(chosen, costs, config)]


def parts_s(chosen: Cell, costs: Costs) -> dict[str, float]:
    """Seconds of a core that an image takes, by part."""
    parts = {"decoding": costs.decode.alone_s, _REMAINDER_NAME: costs.serving_s}
    if costs.on_cpu:
        parts["the model"] = costs.compute.seconds(chosen.concurrent_batches, chosen.batch) / chosen.batch
    return parts


def _bottleneck(chosen: Cell, costs: Costs) -> str:
    if chosen.bound_by == "decoding":
        return (
            f"decoding. {number(chosen.decode_workers, 'worker')} can decode {chosen.peak:.3g} images/s; the model's "
            f"device could take {chosen.limits['device']:.3g}"
        )
    if chosen.bound_by == "device":
        return (
            f"the model. Its device can compute {chosen.peak:.3g} images/s; the workers could decode "
            f"{chosen.limits['decoding']:.3g}"
        )
    if chosen.bound_by == "HTTP":
        return (
            f"the event loop of the replica, which reads and writes HTTP. It can take {chosen.peak:.3g} images/s; the "
            f"workers could decode {chosen.limits['decoding']:.3g} and the model's device compute "
            f"{chosen.limits['device']:.3g}"
        )
    parts = sorted(parts_s(chosen, costs).items(), key=lambda part: -part[1])
    total_s = sum(seconds for _, seconds in parts)
    spent = [f"{part} {seconds / total_s:.0%}" for part, seconds in parts if seconds > _MIN_NAMED_SHARE * total_s]
    cores = "the only core" if costs.cores == 1 else f"the {costs.cores} cores"
    return f"{cores}. Shares of an image's time: {', '.join(spent)}"


def _remedies(chosen: Cell, costs: Costs, config: PipelineConfig) -> Iterator[str]:
    if costs.on_cpu:
        yield "More cores would hold more replicas of this size (max_replicas), each with about this peak"
    elif chosen.bound_by == "cores":
        twice = cell(
            replace(costs, cores=2 * costs.cores), chosen.decode_workers, chosen.concurrent_batches, chosen.batch, 1.0
        )
        part = min(twice.limits, key=lambda part: twice.limits[part])
        until = "" if part == "cores" else f"; then {_PART_NAMES[part]} would be the bottleneck"
        yield f"Twice the cores would give about {twice.peak / chosen.peak:.3g} times the images/s{until}"
    parts = parts_s(chosen, costs)
    if chosen.bound_by == "device" or parts.get("the model", 0.0) >= max(parts.values()):
        if config.dtype == "float32":
            yield "The model computes in float32; `dtype: auto` takes a quicker type where the scores agree"
        if costs.on_cpu:
            yield "A GPU would take the model off the cores; a smaller model would need less of them"
    if (chosen.bound_by == "decoding" or parts["decoding"] >= max(parts.values())) and config.decode == "exact":
        yield "`decode: fast` would decode large JPEGs at a reduced size, which is quicker"
    if chosen.bound_by == "HTTP":
        yield "Several images in one request, or another replica on the same machine, would raise that limit"
    elif parts[_REMAINDER_NAME] >= max(parts.values()) and costs.images_per_request == 1:
        yield "HTTP takes the largest part; several images in one request would share its cost"
