"""The head of a detector: boxes with their classes and scores, in pixels of the image as sent."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pipeline.head_parameters import DecimalNumber
from pipeline.images.geometry import Geometry
from pipeline.model.head_fit import described
from pipeline.model.served import Head
from pipeline.result import Result, label_of

SCORE_THRESHOLD: Final = 0.5
"""Default of the lowest score in an answer. Detectors themselves return boxes from about 0.05 on."""

_NAMES: Final = ("boxes", "scores", "labels")
"""Tensors in a module's output for one image."""

_BOX_DECIMALS: Final = 3
"""Decimals of a box in JSON: thousandths of a pixel."""

DETECTIONS_SCHEMA: Final = {
    "type": "object",
    "required": ["detections"],
    "additionalProperties": False,
    "properties": {
        "detections": {
            "type": "array",
            "description": "Highest score first.",
            "items": {
                "type": "object",
                "required": ["label", "index", "score", "box"],
                "additionalProperties": False,
                "properties": {
                    "label": {"type": "string"},
                    "index": {"type": "integer", "minimum": 0},
                    "score": {"type": "number", "minimum": 0, "maximum": 1},
                    "box": {
                        "type": "array",
                        "description": "Left, top, right and bottom, in pixels of the image as sent: of its stored "
                        "rows and columns, before its EXIF orientation is applied.",
                        "items": {"type": "number", "minimum": 0},
                        "minItems": 4,
                        "maxItems": 4,
                    },
                },
            },
        }
    },
}
"""JSON Schema of detections."""


@dataclass(frozen=True, slots=True, eq=False)
class Detections(Result):
    """Objects found in one image, highest score first; all sequences have the same length."""

    labels: tuple[str, ...]
    indices: tuple[int, ...]
    scores: tuple[float, ...]  # in 0..1
    input_boxes: NDArray[np.float32]  # [k, 4]: left, top, right and bottom in pixels of the model's input
    geometry: Geometry

    @property
    def boxes(self) -> NDArray[np.float32]:
        """Left, top, right and bottom in pixels of the image as sent: float32 [k, 4]."""
        return self.geometry.boxes_as_sent(self.input_boxes)

    @property
    def upright_boxes(self) -> NDArray[np.float32]:
        """Left, top, right and bottom in pixels of the upright image, as a viewer shows it: float32 [k, 4]."""
        return self.geometry.upright_boxes(self.input_boxes)

    def above(self, score_threshold: float) -> int:
        """Return the number of objects with at least that score; they are the first ones."""
        return sum(score >= score_threshold for score in self.scores)

    def as_json(self, score_threshold: float) -> dict[str, Any]:
        """Return the objects with at least that score as the JSON document of an answer."""
        k = self.above(score_threshold)
        boxes = self.boxes[:k].astype(float).round(_BOX_DECIMALS).tolist()
        found = zip(self.labels[:k], self.indices[:k], self.scores[:k], boxes, strict=True)
        names = ("label", "index", "score", "box")
        return {"detections": [dict(zip(names, each, strict=True)) for each in found]}

    def lines(self, score_threshold: float) -> list[str]:
        """Return a line for each object: score, class and box."""
        lines = [
            f"{each['score']:7.1%}  {each['label']}  at {' '.join(f'{side:.0f}' for side in each['box'])}"
            for each in self.as_json(score_threshold)["detections"]
        ]
        return lines or [f"      -  nothing with a score of {score_threshold:g} or more"]

    def cells(self, score_threshold: float) -> list[str]:
        """Return one cell with the list of objects in JSON."""
        return [json.dumps(self.as_json(score_threshold)["detections"], ensure_ascii=False)]


class Detect(Head):
    """Head that turns the output of torchvision's detectors into `Detections`. A request may set `score_threshold`.

    The module suppresses boxes that cover others (NMS) itself.

    Args:
        labels: the name of every class; by torchvision's convention the first is the background.
        score_threshold: lowest score in an answer of a request that names none.
    """

    schema = DETECTIONS_SCHEMA

    def __init__(self, labels: Sequence[str], score_threshold: float = SCORE_THRESHOLD) -> None:
        self.labels = tuple(labels)
        description = "Lowest score of an object in the answer; the model returns none below a limit of its own."
        self.parameters = {"score_threshold": DecimalNumber(score_threshold, 0, 1, description)}

    def check(self, outputs: Any, images: int) -> None:
        """Check that the module returns what torchvision's detectors return.

        Raises:
            ValueError: it does not.
        """
        fits = isinstance(outputs, list | tuple) and len(outputs) == images
        if not fits or any(not isinstance(each, Mapping) or not {*_NAMES} <= {*each} for each in outputs):
            raise ValueError(
                f"the module must return a list of {images} dicts with {', '.join(_NAMES)} for {images} images, as "
                f"torchvision's detectors do, and returns {described(outputs)}; wrap it in a module that returns them"
            )

    def on_device(self, outputs: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Pad the boxes of each image to the largest number in the batch, k, at least 1.

        Args:
            outputs: of each image `boxes` [., 4] in pixels of the input, `scores` [.] and `labels` [.].

        Returns:
            boxes float32 [n, k, 4], scores float32 [n, k], classes int64 [n, k], and their number: found int64 [n].
        """
        device = outputs[0]["boxes"].device
        found = torch.tensor([len(each["boxes"]) for each in outputs], device=device)
        one = {"boxes": torch.zeros(1, 4, device=device), "scores": torch.zeros(1, device=device)}
        one["labels"] = torch.zeros(1, dtype=torch.int64, device=device)

        def padded(name: str, dtype: torch.dtype) -> Tensor:
            columns = [each[name].to(dtype) for each in outputs]
            return pad_sequence([*columns, one[name]], batch_first=True)[:-1]

        boxes, scores = padded("boxes", torch.float32), padded("scores", torch.float32)
        return {"boxes": boxes, "scores": scores, "classes": padded("labels", torch.int64), "found": found}

    def results(self, rows: Mapping[str, Tensor], geometry: Sequence[Geometry]) -> list[Detections]:
        """Return the objects in each image, highest score first."""
        columns = (rows[name].unbind() for name in ("boxes", "scores", "classes"))
        images = zip(*columns, rows["found"].tolist(), geometry, strict=True)
        return [self._result(boxes[:k], scores[:k], classes[:k], place) for boxes, scores, classes, k, place in images]

    def _result(self, boxes: Tensor, scores: Tensor, classes: Tensor, geometry: Geometry) -> Detections:
        order = scores.argsort(descending=True, stable=True)
        indices = tuple(classes[order].tolist())
        labels = tuple(label_of(self.labels, index) for index in indices)
        return Detections(labels, indices, tuple(scores[order].tolist()), boxes[order].numpy(), geometry)

    def columns(self, score_threshold: float) -> list[str]:  # noqa: ARG002 - a column has the same name for any
        """Return the column of the objects."""
        return ["detections"]
