"""The model's own outputs in float32, with which runtimes and number formats are compared."""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from pipeline.model.agreement import difference
from pipeline.model.classify import Classify
from pipeline.model.device_module import DeviceModule
from pipeline.model.multilabel import Multilabel

COMPARED_IMAGES: Final = 16
"""Number of images with which a runtime or a number format is compared with the model itself."""

MAX_DIFFERENCE_FROM_FLOAT32: Final = 0.02
"""Largest allowed difference of a score, a probability, from float32. Only classes with scores that close may swap."""

MIN_TIME_SAVED_SHARE: Final = 0.05
"""Least share of the time that a runtime or a number format must save; otherwise the one before it is kept."""


class Reference:
    """Outputs of a model, computed kernel by kernel in its own number format.

    Args:
        module: the model, on any device.
        samples: inputs: [n, *shape].
    """

    def __init__(self, module: DeviceModule, samples: Tensor) -> None:
        with torch.inference_mode():
            if isinstance(module.head, Classify | Multilabel):
                self._scores: Tensor | None = module.head.scores(module.outputs(samples)).cpu()
            else:
                self._scores, self._rows = None, module(samples)

    def difference(self, rows: Mapping[str, Tensor]) -> float:
        """Return the largest difference of a float from the model's own; NaN if one is NaN.

        The scores of classes are compared class by class, whatever the ranks of the classes.

        Args:
            rows: the head's tensors for the samples, in host memory.
        """
        if self._scores is not None:
            return float((rows["scores"] - self._scores.gather(1, rows["classes"])).abs().max())
        return difference(tuple(rows.values()), self._rows)
