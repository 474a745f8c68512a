"""Decodes images with Pillow to RGB: fills transparency, reduces 16 bits to 8, converts palettes and CMYK."""

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from pipeline.config import DROP_TRANSPARENCY
from pipeline.errors import UndecodableImage
from pipeline.images.header import Header

_MODES_WITH_ALPHA: Final = ("RGBA", "LA", "PA")

_UNWRITTEN_PIXELS: Final[dict[str, int | tuple[int, ...]]] = {
    "1": 1,
    "L": 165,
    "P": 165,
    "I;16": 42_405,
    "LA": (165, 23),
    "RGB": (165, 23, 201),
    "RGBA": (165, 23, 201, 7),
}
"""Pixel value that marks unwritten rows, by the mode in which Pillow opens a PNG; few real rows consist of it."""

Image.MAX_IMAGE_PIXELS = None  # `decode` checks the header's size against the limit in force, and names the limit


def import_decoders(formats: tuple[str, ...]) -> None:
    """Import decoders that Pillow lacks. Workers call this before they enter the sandbox, where no file opens."""
    if "HEIF" in formats:
        import pillow_heif  # an extra

        pillow_heif.register_heif_opener()


def opened(data: bytes | memoryview, name: str) -> Image.Image:
    """Open an image without loading its pixels.

    Args:
        data: the file.
        name: Pillow's name of its format; the decoder must be imported.
    """
    return Image.open(io.BytesIO(data), formats=(name,))


def load_all(image: Image.Image, header: Header) -> bool:
    """Load the pixels of an opened image; return False if pixels of a PNG may be missing.

    Pillow takes a PNG whose compressed pixels end early for complete, and leaves the rest of its memory as it was. So
    the memory is filled first with a value that shows which rows were not written.
    """
    if header.format != "PNG":
        image.load()
        return True
    value = _UNWRITTEN_PIXELS[image.mode]
    image.im = Image.new(image.mode, image.size, value).im
    image.load()
    row = image.height - 1
    if header.coding == "interlaced":  # the last pass holds every second row
        row -= row % 2 == 0
    return row >= 0 and (
        image.crop((0, row, image.width, row + 1)).tobytes() != Image.new(image.mode, (image.width, 1), value).tobytes()
    )


def rgb(image: Image.Image, header: Header, background: str) -> Image.Image:
    """Convert a loaded image to RGB.

    Args:
        image: an image of any mode.
        header: header of the image.
        background: colour behind transparent pixels, filled in before the resize, or `DROP_TRANSPARENCY`.
    """
    if image.mode == "P" and "transparency" in image.info and background != DROP_TRANSPARENCY:
        image = image.convert("RGBA")
    alpha = None if background == DROP_TRANSPARENCY else _alpha(image, header.bit_depth)
    if image.mode.startswith("I;16"):  # Pillow clips 16-bit grey at 255 instead of scaling it
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    whole = image if image.mode == "RGB" else image.convert("RGB")
    if alpha is None or alpha.getextrema() == (255, 255):
        return whole
    canvas = Image.new("RGB", image.size, ImageColor.getrgb(background)[:3])
    canvas.paste(whole, mask=alpha)
    return canvas


def _alpha(image: Image.Image, bit_depth: int) -> Image.Image | None:
    """Return the opacity of each pixel, 0 to 255; None if the image has no transparency."""
    if image.mode in _MODES_WITH_ALPHA:
        return image.getchannel("A")
    if "transparency" not in image.info:
        return None
    shown = np.asarray(image) != _transparent(image, bit_depth)
    return Image.fromarray(np.where(shown.any(-1) if shown.ndim == 3 else shown, np.uint8(255), np.uint8(0)))


def _transparent(image: Image.Image, bit_depth: int) -> NDArray[np.int64]:
    """Return the colour that the tRNS of a grey or RGB PNG declares transparent, in the scale of the decoded pixels."""
    colour: NDArray[np.int64] = np.asarray(image.info["transparency"], np.int64)
    if image.mode == "1":
        return np.minimum(colour, 1)
    if image.mode.startswith("I;16"):
        return colour
    return np.right_shift(colour, 8) if bit_depth == 16 else np.multiply(colour, 255 // ((1 << bit_depth) - 1))


def check_size(image: Image.Image, header: Header) -> None:
    """Raise `UndecodableImage` if Pillow finds more pixels than the header that was checked against the limits."""
    if image.width * image.height > header.width * header.height:
        raise UndecodableImage(
            f"the image cannot be decoded: its header says {header.width} x {header.height} pixels, "
            f"and its pixels {image.width} x {image.height}"
        )
