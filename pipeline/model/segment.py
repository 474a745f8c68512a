"""The head of a segmentation model: the class of every pixel, as a PNG in the size of the image as sent."""

import base64
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from pipeline.images.geometry import Geometry
from pipeline.images.orientation import STORED_TURNS
from pipeline.model.head_fit import described
from pipeline.model.served import Head
from pipeline.result import Result, label_of

_MOST_SMALL_CLASSES: Final = 255
"""Most classes of a mask with 8 bits a pixel: its highest value stands for pixels that the model has not seen."""

_NOT_SEEN: Final = {"L": 255, "I;16": 65_535}
"""Value of pixels outside the model's input, by Pillow's mode of the mask."""

SEGMENTATION_SCHEMA: Final = {
    "type": "object",
    "required": ["classes", "mask"],
    "additionalProperties": False,
    "properties": {
        "classes": {
            "type": "array",
            "description": "Classes in the image, largest share first.",
            "items": {
                "type": "object",
                "required": ["label", "index", "share"],
                "additionalProperties": False,
                "properties": {
                    "label": {"type": "string"},
                    "index": {"type": "integer", "minimum": 0},
                    "share": {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "description": "Of the pixels."},
                },
            },
        },
        "mask": {
            "type": "string",
            "description": "Grey PNG in base64, in the size of the image as sent and lying as its stored pixels do, "
            "before its EXIF orientation is applied; the value of a pixel is the index of its class.",
            "contentEncoding": "base64",
            "contentMediaType": "image/png",
        },
    },
}
"""JSON Schema of a segmentation."""


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation(Result):
    """The class of each pixel of one image.

    Attributes:
        input_mask: index of the class of each pixel of the model's input, upright: uint8 or int32 [height, width].
    """

    takes_long: ClassVar[bool] = True  # encoding a mask of 12 megapixels takes 50 ms, without the interpreter's lock

    input_mask: NDArray[np.uint8] | NDArray[np.int32]
    labels: tuple[str, ...]
    geometry: Geometry

    @property
    def mask(self) -> Image.Image:
        """Mask in the size of the image as sent, as its pixels are stored: 8 bits a pixel, or 16 for many classes."""
        mask, orientation = self._image(), self.geometry.orientation
        if orientation in STORED_TURNS:
            mask = mask.transpose(STORED_TURNS[orientation])
        return self._placed(mask, (self.geometry.width, self.geometry.height), self.geometry.boxes_as_sent)

    @property
    def upright_mask(self) -> Image.Image:
        """Mask in the size of the upright image, as a viewer shows it."""
        return self._placed(self._image(), self.geometry.upright, self.geometry.upright_boxes)

    @property
    def classes(self) -> list[dict[str, Any]]:
        """Classes in the image with their share of the pixels, largest share first."""
        pixels = np.bincount(self.input_mask.reshape(-1))
        shares = [(int(index), float(pixels[index] / self.input_mask.size)) for index in pixels.nonzero()[0]]
        shares.sort(key=lambda each: -each[1])
        return [{"label": label_of(self.labels, index), "index": index, "share": share} for index, share in shares]

    def _image(self) -> Image.Image:
        small = self.input_mask.dtype == np.uint8
        return Image.fromarray(self.input_mask if small else self.input_mask.astype(np.uint16))

    def _placed(self, mask: Image.Image, size: tuple[int, int], boxes: Any) -> Image.Image:
        """Enlarge the mask of the model's input to the part of the image that the input shows."""
        across, down = self.geometry.input_size
        left, top, right, bottom = boxes(np.array([[0, 0, across, down]], np.float32))[0].round().astype(int).tolist()
        seen = mask.resize((max(1, right - left), max(1, bottom - top)), Image.Resampling.NEAREST)
        if seen.size == size:
            return seen
        whole = Image.new(mask.mode, size, _NOT_SEEN[mask.mode])
        whole.paste(seen, (left, top))
        return whole

    def as_json(self) -> dict[str, Any]:
        """Return the classes, and the mask as a PNG in base64."""
        file = io.BytesIO()
        self.mask.save(file, "PNG", compress_level=1, compress_type=zlib.Z_RLE)  # areas are runs of equal pixels
        return {"classes": self.classes, "mask": base64.b64encode(file.getbuffer()).decode()}

    def lines(self) -> list[str]:
        """Return a line for each class: its share of the pixels, and its name."""
        return [f"{each['share']:7.1%}  {each['label']}" for each in self.classes]

    def cells(self) -> list[str]:
        """Return one cell with the list of classes in JSON."""
        return [json.dumps(self.classes, ensure_ascii=False)]


class Segment(Head):
    """Head that turns the logits of a segmentation model into a `Segmentation` of each image.

    Args:
        labels: the name of every class; of a model with one logit a pixel, those of 0 and 1.
    """

    schema = SEGMENTATION_SCHEMA

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)

    def check(self, outputs: Any, images: int) -> None:
        """Check that the module returns logits of the pixels, and a label for each class.

        Raises:
            ValueError: it does not.
        """
        logits = outputs["out"] if isinstance(outputs, Mapping) and "out" in outputs else outputs
        each = [*logits] if isinstance(logits, list | Tensor) and len(logits) == images else []
        if not each or any(not isinstance(one, Tensor) or one.ndim != 3 for one in each):
            raise ValueError(
                f"the module must return logits, float [{images}, classes, height, width] for {images} images, or a "
                f"dict with these as out, and returns {described(outputs)}; wrap it in a module that returns them"
            )
        if self.labels and len(each[0]) not in (1, len(self.labels)):
            raise ValueError(
                f"there are {len(self.labels)} labels, and the module returns {len(each[0])} classes for each pixel; "
                "give a label for each class"
            )

    def on_device(self, outputs: Any) -> dict[str, Tensor]:
        """Return the class of each pixel, padded with zeros to the largest image of the batch.

        Args:
            outputs: logits [n, classes, height, width], or a dict with these as `out`, as torchvision's models return;
                or a list of n tensors [classes, height, width], whose sizes may differ.

        Returns:
            masks uint8 [n, height, width], int32 for more than 255 classes; and peaks float32 [n], the largest absolute
            logit, by which the images with NaN are found.
        """
        logits = outputs["out"] if isinstance(outputs, Mapping) else outputs
        masks = [_classes(each) for each in logits] if isinstance(logits, list) else [*_classes(logits, dim=1)]
        height, width = (max(mask.shape[side] for mask in masks) for side in (0, 1))
        padded = [pad(mask, (0, width - mask.shape[1], 0, height - mask.shape[0])) for mask in masks]
        peaks = [each.abs().amax().float() for each in logits]
        return {"masks": torch.stack(padded), "peaks": torch.stack(peaks)}

    def results(self, rows: Mapping[str, Tensor], geometry: Sequence[Geometry]) -> list[Segmentation]:
        """Return the mask of each image."""
        results = []
        for mask, place in zip(rows["masks"], geometry, strict=True):
            across, down = place.input_size
            results.append(Segmentation(mask[:down, :across].numpy(), tuple(self.labels), place))
        return results

    def columns(self) -> list[str]:
        """Return the column of the classes; a row of CSV has no space for a mask."""
        return ["classes"]


def _classes(logits: Tensor, dim: int = 0) -> Tensor:
    """Return the index of the largest logit, or for a single one whether it is above 0."""
    count = logits.shape[dim]
    classes = (logits > 0).squeeze(dim) if count == 1 else logits.argmax(dim)
    return classes.to(torch.uint8 if count <= _MOST_SMALL_CLASSES else torch.int32)
