"""Finds the image at fault when the model raises on a batch."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Image = TypeVar("Image")
Answer = TypeVar("Answer")


def bisected(
    images: Sequence[Image], compute: Callable[[Sequence[Image]], Answer]
) -> Iterator[tuple[Sequence[Image], Answer | Exception]]:
    """Compute a failed batch by halves, down to the image at fault; yield the images of each successful part, in order.

    This also answers a batch that is too large for the device's memory.

    Args:
        images: images of a failed batch, one or more. The failure may have been accidental, so all are tried once more.
        compute: computes images, and raises the errors of the model.

    Yields:
        Images with their answer, or a single image with the error that it raised.
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
