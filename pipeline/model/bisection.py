"""The search for the image at fault, where the model raises on a batch."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Image = TypeVar("Image")
Answer = TypeVar("Answer")


def bisected(
    images: Sequence[Image], compute: Callable[[Sequence[Image]], Answer]
) -> Iterator[tuple[Sequence[Image], Answer | Exception]]:
    """Computes images by halves, down to the one at fault; what is answered together is yielded together, in order.

    That is also what a batch needs that is too large for the device's memory.

    Args:
        images: of a batch that failed, one or more; it may have failed by chance, so it is tried whole once more.
        compute: raises whatever the model raises.

    Yields:
        images with their answer, or a single one with what was raised on it.
    """
    try:
        answer = compute(images)
    except Exception as error:  # noqa: BLE001 - a model may raise anything
        if len(images) == 1:
            yield images, error
        else:
            yield from bisected(images[: len(images) // 2], compute)
            yield from bisected(images[len(images) // 2 :], compute)
    else:
        yield images, answer
