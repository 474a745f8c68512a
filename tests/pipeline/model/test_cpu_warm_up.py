"""Tests of the CPU's warm-up: which batch sizes it tries, and with how many threads."""

import math

import pytest
import torch

from pipeline.model.cpu import CpuDevice
from tests.pipeline.model.test_device import SIZES, SPEC, classifier


def test_the_sizes_are_warmed(monkeypatch: pytest.MonkeyPatch) -> None:
    """All sizes are warmed, on the CPU by one thread, and the time of a batch of each is returned."""
    seen: list[tuple[int, int]] = []
    model = classifier()
    model.register_forward_pre_hook(lambda _, args: seen.append((len(args[0]), torch.get_num_threads())))
    monkeypatch.setattr(
        "pipeline.model.runtime_torch.as_graph", lambda model, *_: model
    )  # a graph would not call the hook
    monkeypatch.setattr("pipeline.model.cpu._MAX_SLOWDOWN_PER_IMAGE", math.inf)
    monkeypatch.setattr("pipeline.model.cpu._MAX_SIZES_WITHOUT_GAIN", math.inf)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        device = CpuDevice(model, SIZES, SPEC, concurrent_batches=2)
        seconds = device.warm_up()
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {(size, 1) for size in SIZES}
    assert device.concurrent_batches == 2
    assert tuple(seconds) == SIZES
    assert all(taken > 0 for taken in seconds.values())


@pytest.mark.parametrize(
    ("taken_s", "tried"),
    [
        ((1, 2.2, 3.6, 7), (1, 2, 4, 8)),
        ((1, 2.6, 4, 7), (1, 2)),
        ((1, 1.5, 4, 9), (1, 2, 4)),
        ((1, 2.2, 3.9, 7), (1, 2, 4)),
    ],
    ids=["all may pay", "the second does not", "the third does not", "two in a row hardly gain"],
)
def test_on_the_cpu_no_size_is_tried_that_is_unlikely_to_pay(
    monkeypatch: pytest.MonkeyPatch, taken_s: tuple[float, ...], tried: tuple[int, ...]
) -> None:
    """Sizes above one that is much slower per image, or above two without a gain, would only delay the start."""
    times = iter(taken_s)
    monkeypatch.setattr("pipeline.model.runtime_torch.as_graph", lambda model, *_: model)
    monkeypatch.setattr("pipeline.model.cpu.warm_seconds", lambda _: next(times))
    seconds = CpuDevice(classifier(), (1, 2, 4, 8), SPEC, concurrent_batches=1).warm_up()
    assert seconds == dict(zip(tried, taken_s, strict=False))
