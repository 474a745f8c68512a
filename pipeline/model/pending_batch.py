"""A batch on its way through a device, and the answers that come out of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from torch import Tensor

MODULES: Final = "modules, kernel by kernel"
"""Description of the slowest way to compute a model, for which nothing has to be prepared."""


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds that the device spent on a batch, without the time that the batch waited."""

    copy_s: float  # pixels -> one piece of the device's memory
    model_s: float


@dataclass(frozen=True, slots=True)
class Answers:
    """Best classes of the images of a batch; both lists have an entry an image, best class first."""

    scores: list[list[float]]
    classes: list[list[int]]
    spent: Spent


@dataclass(frozen=True, slots=True)
class Launched:
    """A batch on its way through the device."""

    images: int
    scores: Tensor  # float32 [images or more, k] in host memory, to be read once the device is done
    classes: Tensor  # int64 [images or more, k], likewise
    wait: Callable[[], Spent]  # until the device is done


def collect(launched: Launched) -> Answers:
    """Waits for a batch and reads its answers."""
    spent = launched.wait()
    return Answers(launched.scores[: launched.images].tolist(), launched.classes[: launched.images].tolist(), spent)
