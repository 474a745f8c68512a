"""Copies of pictures with the model's results drawn into them, upright, as a viewer shows the pictures."""

import colorsys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from commands.drawing_folder import names_of_copies
from commands.files import read
from commands.output import OutputFailed
from pipeline.config import PipelineConfig
from pipeline.errors import ImageError
from pipeline.head_parameters import Value
from pipeline.images.decode import upright_picture
from pipeline.images.pillow import import_decoders
from pipeline.model.detect import Detections
from pipeline.model.segment import Segmentation
from pipeline.records import Prediction

_QUALITY: Final = 90
_MAX_CAPTION_LINES: Final = 8
_MAX_CAPTION_CHARACTERS: Final = 60
_MASK_OPACITY: Final = 0.5
_GOLDEN_RATIO: Final = 0.618034
_BACKGROUND: Final = "background"

Colour = tuple[int, int, int]


class Drawings:
    """Draws results into copies of their pictures.

    Args:
        folder: an empty folder.
        files: names of all files.
        config: formats, and background of transparent pixels.
        max_bytes: limit on the bytes of a file.
        values: values of the head's parameters.
    """

    def __init__(
        self, folder: Path, files: Sequence[str], config: PipelineConfig, max_bytes: int, values: Mapping[str, Value]
    ) -> None:
        self._folder, self._names, self._config = folder, names_of_copies(files), config
        self._max_bytes, self._values = max_bytes, values
        import_decoders(config.formats)

    def draw(self, file: str, prediction: Prediction) -> None:
        """Write the copy of one file.

        Raises:
            OutputFailed: the file cannot be read again, or the copy cannot be written.
        """
        path = self._folder / self._names[file]
        try:
            data = memoryview(read(file, self._max_bytes))
            picture = upright_picture(data, self._config.formats, self._config.background)
            with path.open("xb") as copy:
                drawn(picture, prediction, self._values).save(copy, "JPEG", quality=_QUALITY)
        except ImageError as error:
            raise OutputFailed(f"cannot draw {file}, which has changed: {error}") from error
        except OSError as error:
            raise OutputFailed(f"cannot write {path}: {error.strerror or error}") from error


def drawn(picture: Image.Image, prediction: Prediction, values: Mapping[str, Value]) -> Image.Image:
    """Return the picture with a result: boxes, areas in colours, or a caption with the result's lines.

    Args:
        picture: upright RGB.
        prediction: result for the picture.
        values: values of the head's parameters.
    """
    pen = _Pen(picture)
    match prediction.result:
        case Detections() as found:
            count = found.above(float(values["score_threshold"]))
            columns = zip(found.labels, found.indices, found.scores, found.upright_boxes.tolist(), strict=True)
            for label, index, score, box in reversed([*columns][:count]):  # the surest on top
                pen.box(box, f"{label} {score:.0%}", colour_of(index))
        case Segmentation() as found:
            shown = [each for each in found.classes if not _is_background(each["label"], each["index"])]
            pen.areas(found.upright_mask, [each["index"] for each in shown])
            pen.captions((f"{each['label']} {each['share']:.1%}", colour_of(each["index"])) for each in shown)
        case _:
            pen.captions((line.strip(), (0, 0, 0)) for line in prediction.lines(**values))
    return pen.picture


def colour_of(index: int) -> Colour:
    """Return the colour of a class: hues far apart for classes close together."""
    red, green, blue = colorsys.hsv_to_rgb(index * _GOLDEN_RATIO % 1, 0.85, 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)


def _is_background(label: str, index: int) -> bool:
    return index == 0 and label.strip("_").lower() == _BACKGROUND


class _Pen:
    """Draws into a picture, with lines and letters in proportion to it."""

    def __init__(self, picture: Image.Image) -> None:
        self.picture = picture
        shorter = min(picture.size)
        self._line_px = max(1, round(shorter / 200))
        self._font = ImageFont.load_default(max(10, shorter / 28))

    def box(self, box: Sequence[float], text: str, colour: Colour) -> None:
        """Frame an object, with a text above its upper left corner."""
        left, top, right, bottom = box
        ImageDraw.Draw(self.picture).rectangle(
            (left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=self._line_px
        )
        self._text((left, top), text, colour, above=True)

    def areas(self, mask: Image.Image, classes: Sequence[int]) -> None:
        """Lay the colours of classes over their areas."""
        indices = np.asarray(mask)
        colours, shown = np.zeros((*indices.shape, 3), np.uint8), np.zeros(indices.shape, np.uint8)
        for index in classes:
            area = indices == index
            colours[area], shown[area] = colour_of(index), round(255 * _MASK_OPACITY)
        self.picture.paste(Image.fromarray(colours), (0, 0), Image.fromarray(shown))

    def captions(self, lines: Iterable[tuple[str, Colour]]) -> None:
        """Write lines into the upper left corner, one below the other."""
        top = 0.0
        for text, colour in [*lines][:_MAX_CAPTION_LINES]:
            top = self._text((0, top), text, colour, above=False)

    def _text(self, at: tuple[float, float], text: str, colour: Colour, *, above: bool) -> float:
        """Write a text on its colour, inside the picture; return its lower edge."""
        draw = ImageDraw.Draw(self.picture)
        text = text if len(text) <= _MAX_CAPTION_CHARACTERS else f"{text[:_MAX_CAPTION_CHARACTERS]}..."
        _, _, right, bottom = draw.textbbox((0, 0), text, self._font)
        margin = 2 * self._line_px
        width, height = right + 2 * margin, bottom + 2 * margin
        x = min(max(0.0, at[0]), max(0.0, self.picture.width - width))
        y = min(max(0.0, at[1] - height if above else at[1]), max(0.0, self.picture.height - height))
        draw.rectangle((x, y, x + width, y + height), fill=colour)
        dark = 0.3 * colour[0] + 0.6 * colour[1] + 0.1 * colour[2] < 128
        draw.text((x + margin, y + margin), text, fill="white" if dark else "black", font=self._font)
        return y + height
