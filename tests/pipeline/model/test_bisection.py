"""Tests of the bisection that finds the faulty image, on numbers in place of images."""

from collections.abc import Sequence

import pytest

from pipeline.model.bisection import bisected


class FailingModel:
    """A model that fails on some images, and on batches above a limit."""

    def __init__(self, *fails_on: int, most: int = 100) -> None:
        self.fails_on, self.most = set(fails_on), most
        self.computed: list[list[int]] = []

    def compute(self, images: Sequence[int]) -> list[int]:
        """Return the images themselves."""
        self.computed.append([*images])
        if self.fails_on & {*images} or len(images) > self.most:
            raise RuntimeError(f"on {images}")
        return [*images]


def _found(images: Sequence[int], model: FailingModel) -> dict[tuple[int, ...], str]:
    return {
        tuple(part): str(answer) if isinstance(answer, Exception) else "answered"
        for part, answer in bisected(images, model.compute)
        if isinstance(answer, Exception) or answer == [*part]
    }


def test_what_failed_by_chance_is_answered_whole() -> None:
    assert _found([1, 2, 3], FailingModel()) == {(1, 2, 3): "answered"}


@pytest.mark.parametrize("bad", range(1, 6))
def test_the_image_at_fault_is_found_alone_and_in_order(bad: int) -> None:
    model = FailingModel(bad)
    found = _found([1, 2, 3, 4, 5], model)
    assert [image for part in found for image in part] == [1, 2, 3, 4, 5]
    assert {part for part, answer in found.items() if answer != "answered"} == {(bad,)}
    assert found[(bad,)] == f"on [{bad}]"
    assert len(model.computed) <= 7


def test_several_at_fault_are_all_found() -> None:
    found = _found([1, 2, 3, 4], FailingModel(1, 4))
    assert {part for part, answer in found.items() if answer != "answered"} == {(1,), (4,)}


def test_what_is_too_much_at_once_is_answered_in_parts() -> None:
    assert {*_found([1, 2, 3, 4, 5], FailingModel(most=2)).values()} == {"answered"}


def test_nothing_is_computed_before_it_is_asked_for() -> None:
    """Each step is computed only on demand, so that the search can stop when the device itself is at fault."""
    model = FailingModel(most=1)
    search = bisected([1, 2, 3, 4], model.compute)
    assert next(search) == ([1], [1])
    assert [4] not in model.computed
