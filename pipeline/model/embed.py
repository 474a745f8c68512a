"""The head of a model whose output is a vector an image: the vector, divided by its length."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from pipeline.head_parameters import OneOf
from pipeline.images.geometry import Geometry
from pipeline.model.head_fit import described, is_floats
from pipeline.model.served import Head
from pipeline.result import Result

_SHOWN_NUMBERS: Final = 6

_SCHEMA: Final = {
    "type": "object",
    "required": ["embedding", "dimensions"],
    "additionalProperties": False,
    "properties": {
        "embedding": {
            "oneOf": [
                {"type": "array", "items": {"type": "number", "minimum": -1, "maximum": 1}},
                {"type": "string", "contentEncoding": "base64"},
            ],
            "description": "Vector of length 1: numbers, or with `encoding=base64` float32, little-endian.",
        },
        "dimensions": {"type": "integer", "minimum": 1, "description": "Length of the list of numbers."},
    },
}


@dataclass(frozen=True, slots=True, eq=False)
class Embedding(Result):
    """The vector of one image."""

    vector: NDArray[np.float32]  # [dimensions]; its length (L2) is 1, or 0 if the module's output is all zeros

    def as_json(self, encoding: str) -> dict[str, Any]:
        """Return the vector and its dimensions as the JSON document of an answer.

        Args:
            encoding: "json" for a list of numbers, "base64" for the bytes of float32, little-endian.
        """
        embedding = self.vector if encoding == "json" else self.base64()
        return {"embedding": embedding, "dimensions": len(self.vector)}

    def base64(self) -> str:
        """Return the bytes of the vector, float32, little-endian, as base64."""
        return base64.b64encode(self.vector.astype("<f4", copy=False).tobytes()).decode("ascii")

    def lines(self, encoding: str) -> list[str]:  # noqa: ARG002 - a person reads numbers
        """Return one line with the dimensions and the first numbers."""
        first = "  ".join(f"{number:7.4f}" for number in self.vector[:_SHOWN_NUMBERS].tolist())
        more = "  ..." if len(self.vector) > _SHOWN_NUMBERS else ""
        return [f"{len(self.vector)} dimensions: {first}{more}"]

    def cells(self, encoding: str) -> list[str]:  # noqa: ARG002 - thousands of columns would help no one
        """Return the dimensions and the vector as base64."""
        return [str(len(self.vector)), self.base64()]


class Embed(Head):
    """Head that turns vectors [n, dimensions] into the `Embedding` of each image. A request may set `encoding`."""

    schema = _SCHEMA

    def __init__(self) -> None:
        description = "Form of the vector: a list of numbers, or float32 in little-endian order as base64."
        self.parameters = {"encoding": OneOf("json", ("json", "base64"), description)}

    def check(self, outputs: Any, images: int) -> None:
        """Raise ValueError if the outputs are not one vector for each image."""
        if not (is_floats(outputs) and outputs.ndim == 2 and len(outputs) == images and outputs.shape[1]):
            raise ValueError(
                f"the module must return vectors, float [{images}, dimensions] for {images} images, and returns "
                f"{described(outputs)}; end it with a pooling and torch.nn.Flatten(), or give a head of your own"
            )

    def on_device(self, outputs: Tensor) -> dict[str, Tensor]:
        """Return the vectors, each divided by its length: float32 [n, dimensions]."""
        return {"embedding": normalize(outputs.float(), dim=1)}

    def results(self, rows: Mapping[str, Tensor], geometry: Sequence[Geometry]) -> list[Embedding]:  # noqa: ARG002
        """Return the vector of each image."""
        # Copied, as the device's output is page-locked, and a result may be kept for long.
        return [Embedding(vector) for vector in rows["embedding"].numpy().copy()]

    def columns(self, encoding: str) -> Sequence[str]:  # noqa: ARG002
        """Return two columns: the number of dimensions, and the vector as base64 of float32, little-endian."""
        return ("dimensions", "embedding_base64")
