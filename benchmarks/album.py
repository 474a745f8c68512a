"""Sixteen photographs for measurements on many images: ten from the wheels of the tests, and six from Debian.

The six are from the package `forensics-samples-files`, four of them 4000 x 3000 from a telephone. `make decoders`
unpacks the package beside the project; without it the album has ten.
"""

import functools
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from typing import Final

from PIL import Image, ImageOps

from harness.photographs import NAMES, photograph
from harness.repository import PEERS

_SCIKIT_IMAGE_FILES: Final = ("motorcycle_left.png", "motorcycle_right.png", "hubble_deep_field.jpg", "retina.jpg")
_DEBIAN_FOLDER: Final = PEERS / "photographs" / "usr" / "share" / "forensics-samples" / "original-files"
_DEBIAN_FILES: Final = (
    "pic1/IMG-20191006-WA0002.jpg",
    "pic1/IMG_1054.JPG",
    "pic1/IMG_20200827_231612.jpg",
    "pic2/IMG_20191224_234846.jpg",
    "pic2/IMG_20200124_231153.jpg",
    "pic2/IMG_20200608_111614.jpg",
)


def album() -> dict[str, Callable[[], Image.Image]]:
    """Return the names, each with a function that opens the picture: upright, RGB."""
    folder = Path(str(distribution("scikit-image").locate_file("skimage/data")))
    pictures: dict[str, Callable[[], Image.Image]] = {name: functools.partial(photograph, name) for name in NAMES}
    files = [folder / name for name in _SCIKIT_IMAGE_FILES] + [_DEBIAN_FOLDER / name for name in _DEBIAN_FILES]
    return pictures | {file.stem: functools.partial(_opened, file) for file in files if file.exists()}


def scaled(image: Image.Image, short_px: int) -> Image.Image:
    """Scale a picture to that many pixels along its shorter side."""
    times = short_px / min(image.size)
    size = (round(image.width * times), round(image.height * times))
    return image.resize(size, Image.Resampling.LANCZOS)


def _opened(file: Path) -> Image.Image:
    return ImageOps.exif_transpose(Image.open(file)).convert("RGB")
