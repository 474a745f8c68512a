"""The head of a classifier: softmax over all classes, and the best of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor

from pipeline.head_parameters import WholeNumber
from pipeline.images.geometry import Geometry
from pipeline.model.head_fit import check_logits, described
from pipeline.model.served import Head
from pipeline.result import Result, label_of

CLASSES_SCHEMA: Final = {
    "type": "object",
    "required": ["predictions"],
    "additionalProperties": False,
    "properties": {
        "predictions": {
            "type": "array",
            "description": "Best first.",
            "items": {
                "type": "object",
                "required": ["label", "index", "score"],
                "additionalProperties": False,
                "properties": {
                    "label": {"type": "string"},
                    "index": {"type": "integer", "minimum": 0},
                    "score": {"type": "number", "minimum": 0, "maximum": 1},
                },
            },
        }
    },
}
"""JSON Schema of classes with their scores."""

_USUAL_CLASSES: Final = 5


@dataclass(frozen=True, slots=True)
class Classification(Result):
    """The best classes of one image, best first; the three sequences have the same length."""

    labels: tuple[str, ...]
    indices: tuple[int, ...]
    scores: tuple[float, ...]  # softmax probabilities in 0..1, over all classes

    def as_json(self, top_k: int) -> dict[str, Any]:
        """Return the best `top_k` classes as the JSON document of an answer."""
        best = zip(self.labels[:top_k], self.indices[:top_k], self.scores[:top_k], strict=True)
        return {"predictions": [{"label": label, "index": index, "score": score} for label, index, score in best]}

    def lines(self, top_k: int) -> list[str]:
        """Return a line for each class."""
        best = zip(self.labels[:top_k], self.scores[:top_k], strict=True)
        return [class_line(label, score) for label, score in best]

    def cells(self, top_k: int) -> list[str]:
        """Return a cell for each label and each score; empty if the model has fewer classes."""
        best = zip(self.labels[:top_k], self.scores[:top_k], strict=True)
        cells = [cell for label, score in best for cell in (label, str(score))]
        return cells + [""] * (2 * top_k - len(cells))


def class_line(label: str, score: float) -> str:
    """Return a line for people with a class and its score."""
    return f"{score:7.1%}  {label}"


class Classify(Head):
    """Head that turns logits [n, classes] into a `Classification` of each image. A request may set `top_k`.

    Args:
        labels: the name of every class; none, to name classes by their numbers.
        top_k: number of classes kept for each image, best first; all classes if there are fewer or it is None.
    """

    schema = CLASSES_SCHEMA

    def __init__(self, labels: Sequence[str], top_k: int | None = None) -> None:
        self.labels = tuple(labels)
        self.top_k = len(self.labels) if top_k is None else top_k
        description = "Number of classes in the answer, best first; at most `max_top_k` of `GET /info`."
        usual = min(_USUAL_CLASSES, self.top_k)
        self.parameters = {"top_k": WholeNumber(usual, 1, self.top_k, description)}

    def check(self, outputs: Any, images: int) -> None:
        """Raise ValueError if the outputs are not logits of two classes or more, one for each label."""
        check_logits(outputs, images, self.labels)
        if outputs.shape[1] == 1:
            raise ValueError(
                f"the module returns a single class for each image, {described(outputs)}, and its softmax is always "
                "1.0; take the head Multilabel, whose sigmoid fits a single output"
            )

    def on_device(self, outputs: Tensor) -> dict[str, Tensor]:
        """Return the best classes: scores float32 [n, k], descending; classes int64 [n, k]."""
        scores = self.scores(outputs)
        best = scores.topk(min(self.top_k, scores.shape[1]), dim=1)
        return {"scores": best.values, "classes": best.indices}

    def scores(self, outputs: Tensor) -> Tensor:
        """Return the softmax probabilities of all classes: float32 [n, classes]."""
        return torch.softmax(outputs, dim=1, dtype=torch.float32)

    def results(self, rows: Mapping[str, Tensor], geometry: Sequence[Geometry]) -> list[Classification]:  # noqa: ARG002
        """Return the best classes of each image with their names."""
        best = zip(rows["scores"].tolist(), rows["classes"].tolist(), strict=True)
        name = self.labels.__getitem__ if self.labels else partial(label_of, ())
        return [Classification(tuple(map(name, indices)), tuple(indices), tuple(scores)) for scores, indices in best]

    def columns(self, top_k: int) -> list[str]:
        """Return two columns for each class, best first."""
        return [f"{column}_{rank}" for rank in range(1, top_k + 1) for column in ("label", "score")]
