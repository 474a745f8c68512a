"""The head of a model with several labels an image: sigmoid, and all classes that reach a threshold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.head_parameters import DecimalNumber
from pipeline.images.geometry import Geometry
from pipeline.model.classify import CLASSES_SCHEMA, class_line
from pipeline.model.head_fit import check_logits
from pipeline.model.served import Head
from pipeline.result import Result, label_of


@dataclass(frozen=True, slots=True, eq=False)
class ClassScores(Result):
    """The scores of all classes for one image, best first."""

    labels: Sequence[str]  # of the model, by index; empty if the classes have no names
    indices: NDArray[np.int64]  # [classes]
    scores: NDArray[np.float32]  # [classes], in 0..1, descending; each class has a score of its own

    def above(self, threshold: float) -> list[tuple[str, int, float]]:
        """Return label, index and score of each class whose score is at least `threshold`, best first."""
        count = int(np.count_nonzero(self.scores >= threshold))
        best = zip(self.indices[:count].tolist(), self.scores[:count].tolist(), strict=True)
        return [(label_of(self.labels, index), index, score) for index, score in best]

    def as_json(self, threshold: float) -> dict[str, Any]:
        """Return the classes that reach the threshold as the JSON document of an answer."""
        found = self.above(threshold)
        return {"predictions": [{"label": label, "index": index, "score": score} for label, index, score in found]}

    def lines(self, threshold: float) -> list[str]:
        """Return a line for each class that reaches the threshold, or one that says that none does."""
        lines = [class_line(label, score) for label, _, score in self.above(threshold)]
        return lines or [f"      -  no class reaches {threshold:g}; the best has {self.scores[0]:.2g}"]

    def cells(self, threshold: float) -> list[str]:
        """Return a cell for each class, by index: its score, or nothing if it is below the threshold."""
        cells = [""] * len(self.scores)
        for _, index, score in self.above(threshold):
            cells[index] = str(score)
        return cells


class Multilabel(Head):
    """Head that turns logits [n, classes] into the `ClassScores` of each image. A request may set `threshold`.

    Args:
        labels: the name of every class.
        threshold: least score of a class in an answer, in 0..1, for requests that do not say.

    Raises:
        ValueError: the threshold is out of range.
    """

    schema = CLASSES_SCHEMA

    def __init__(self, labels: Sequence[str], threshold: float = 0.5) -> None:
        self.labels = tuple(labels)
        parameter = DecimalNumber(threshold, 0.0, 1.0, "Least score of a class in the answer.")
        if not parameter.allows(threshold):
            raise ValueError(f"threshold: {threshold} is not {parameter.allowed}")
        self.parameters = {"threshold": parameter}

    def check(self, outputs: Any, images: int) -> None:
        """Raise ValueError if the outputs are not one logit for each label."""
        check_logits(outputs, images, self.labels)

    def on_device(self, outputs: Tensor) -> dict[str, Tensor]:
        """Return all classes, best first: scores float32 [n, classes], descending; classes int64 [n, classes]."""
        best = self.scores(outputs).sort(dim=1, descending=True)
        return {"scores": best.values, "classes": best.indices}

    def scores(self, outputs: Tensor) -> Tensor:
        """Return the sigmoid of every logit: float32 [n, classes]."""
        return torch.sigmoid(outputs.to(torch.float32))

    def results(self, rows: Mapping[str, Tensor], geometry: Sequence[Geometry]) -> list[ClassScores]:  # noqa: ARG002
        """Return the classes of each image, best first."""
        # Copied, as the device's output is page-locked, and a result may be kept for long.
        scores, classes = rows["scores"].numpy().copy(), rows["classes"].numpy().copy()
        return [ClassScores(self.labels, *each) for each in zip(classes, scores, strict=True)]

    def columns(self, threshold: float) -> Sequence[str]:  # noqa: ARG002 - a column a class, whatever the threshold
        """Return a column for each class."""
        return self.labels
