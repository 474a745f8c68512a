"""Decodes one image: encoded bytes -> uint8 pixels. Runs in the workers; raises `ImageError` and nothing else.

Decoders raise many classes of errors on damaged files: of 602 refused files of one corpus, 22 ended in ValueError, 16
in DecompressionBombError, 3 in NotImplementedError and 1 in SyntaxError. So `decode_image` turns every error into an
`ImageError`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pipeline.bounds import decode_memory_bytes
from pipeline.errors import ImageError, TooMuchMemory, UndecodableImage
from pipeline.images.fit import Input, fit_exact, fit_fast
from pipeline.images.geometry import ON_ITS_SIDE, dct_scale, fitted, scales, target_size
from pipeline.images.header import Header, read_header
from pipeline.images.jpeg import decode_jpeg, metadata_of_jpeg
from pipeline.images.limits import check_image
from pipeline.images.orientation import UPRIGHT_TURNS, Metadata, corner, orientation_of, orientation_of_opened
from pipeline.images.pillow import check_size, load_all, opened, rgb
from pipeline.images.png import pixels_of_png, rows_of_png
from pipeline.images.resize import CropPlan, resize_exact, resize_fast
from pipeline.images.webp import pixels_of_webp
from pipeline.records import FitTransform, Transform, UserTransform, WorkerTransform

UsersOwn = Callable[[Image.Image], Tensor]
"""Transform of the user's own; raises `TransformFailed`."""


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """The model's input made from one image."""

    pixels: Input | Tensor  # [crop_px, crop_px, 3], or for a `FitTransform` [height, width, 3]; RGB, upright
    width: int  # of the image as it was sent
    height: int
    orientation: int  # EXIF orientation, 1 to 8, of the image as it was sent


@dataclass(frozen=True, slots=True)
class _Picture:
    """A decoded image as stored, before its orientation is applied."""

    pixels: NDArray[np.uint8]  # [height, width, 3], RGB
    size: tuple[int, int]  # width and height, as stored
    covered: tuple[float, float]  # width and height of the picture in `pixels`; see `CropPlan`
    orientation: int

    def upright(self, stored: Image.Image) -> Image.Image:
        """Turn the picture, or its resized copy, upright."""
        return stored.transpose(UPRIGHT_TURNS[self.orientation]) if self.orientation in UPRIGHT_TURNS else stored

    def upright_pixels(self, stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn pixels upright: uint8 [height, width, 3]."""
        return stored if self.orientation not in UPRIGHT_TURNS else np.asarray(self.upright(Image.fromarray(stored)))

    def as_input(self, pixels: Input | Tensor) -> DecodedImage:
        """Return the model's input made of the picture, with the picture's size and orientation."""
        return DecodedImage(pixels, *self.size, self.orientation)


def decode(data: memoryview, transform: Transform, max_pixels: int, max_work_s: float = math.inf) -> NDArray[np.uint8]:
    """Decode an image by `decode_image`, and return its pixels: uint8 [crop_px, crop_px, 3], RGB."""
    return cast(NDArray[np.uint8], decode_image(data, transform, max_pixels, max_work_s).pixels)


def decode_image(
    data: memoryview,
    transform: WorkerTransform,
    max_pixels: int,
    max_work_s: float = math.inf,
    users_own: UsersOwn | None = None,
) -> DecodedImage:
    """Decode one image, bring it upright, resize and crop it, or resize it to fit.

    In `exact` mode the result equals `PIL.Image.convert("RGB")` followed by torchvision's `ImageClassification` preset
    up to its float conversion, if no pixel is transparent; of a `FitTransform`, see `fit_exact`. In `fast` mode JPEGs
    are decoded at a reduced size if that is large enough, and another kernel resizes.

    Args:
        data: an encoded image.
        transform: sizes, interpolation, mode and formats.
        max_pixels: limit on width x height in the header.
        max_work_s: limit on the cost, which follows from the header.
        users_own: the function of a `UserTransform`: an upright RGB picture -> the model's input.

    Raises:
        EmptyImage, UnsupportedFormat, UndecodableImage, TooManyPixels, ImageTooCostly, TooMuchMemory: the image cannot
            be decoded; the message says why.
        TransformFailed: the user's own transform fails on the image.
    """
    try:
        return _decode(data, transform, max_pixels, max_work_s, users_own)
    except ImageError:
        raise
    except MemoryError as error:
        raise TooMuchMemory(
            f"decoding the image takes more than {decode_memory_bytes(max_pixels) >> 20} MiB of memory, the limit"
        ) from error
    except Exception as error:  # decoders raise any class of error on damaged files
        raise UndecodableImage(f"the image cannot be decoded: {_in_one_line(error)}") from error


def upright_picture(data: memoryview, formats: tuple[str, ...], background: str) -> Image.Image:
    """Decode a whole image that `decode_image` has accepted, and bring it upright, without a resize.

    Args:
        data: an encoded image.
        formats: names of Pillow's formats that are accepted.
        background: as in `Transform`.

    Raises:
        ImageError: it is another image by now.
    """
    picture = _picture(data, read_header((data,), formats), 1, background)
    return picture.upright(Image.fromarray(picture.pixels))


def _decode(
    data: memoryview, transform: WorkerTransform, max_pixels: int, max_work_s: float, users_own: UsersOwn | None
) -> DecodedImage:
    header = read_header((data,), transform.formats)
    check_image(header, transform, max_pixels, max_work_s)
    if isinstance(transform, UserTransform):
        return _by_user(_picture(data, header, 1, transform.background), users_own)
    if transform.decode == "exact":
        return _exactly(_picture(data, header, 1, transform.background), transform)
    size = (header.width, header.height)
    picture = _picture(data, header, dct_scale(size, target_size(*size, transform)), transform.background)
    return (
        _fitted_fast(picture, transform) if isinstance(transform, FitTransform) else _cropped_fast(picture, transform)
    )


def _by_user(picture: _Picture, users_own: UsersOwn | None) -> DecodedImage:
    """Turn a picture upright, and let the user's own transform do the rest."""
    if users_own is None:
        raise ValueError("a transform of the user's own needs its function")
    return picture.as_input(users_own(picture.upright(Image.fromarray(picture.pixels))))


def _exactly(picture: _Picture, transform: Transform | FitTransform) -> DecodedImage:
    """Turn a picture upright first, as torchvision's presets expect, then resize it."""
    upright = picture.upright(Image.fromarray(picture.pixels))
    if isinstance(transform, FitTransform):
        return picture.as_input(fit_exact(upright, transform))
    return picture.as_input(np.asarray(resize_exact(upright, transform)))


def _cropped_fast(picture: _Picture, transform: Transform) -> DecodedImage:
    """Resize and crop; turn only the crop upright, as the smallest step."""
    target = target_size(*picture.size, transform)
    left, top = corner(target, picture.orientation, transform.crop_px)
    kept = resize_fast(picture.pixels, CropPlan(picture.covered, target, left, top), transform)
    return picture.as_input(picture.upright_pixels(kept))


def _fitted_fast(picture: _Picture, transform: FitTransform) -> DecodedImage:
    """Resize to fit; turn the resized picture upright, which has fewer pixels."""
    on_its_side = picture.orientation in ON_ITS_SIDE
    target = fitted(*(picture.size[::-1] if on_its_side else picture.size), transform)
    kept = fit_fast(picture.pixels, picture.covered, target[::-1] if on_its_side else target)
    return picture.as_input(picture.upright_pixels(kept))


def _picture(data: memoryview, header: Header, part: int, background: str) -> _Picture:
    """Decode an image, at a reduced size if its format allows that."""
    if header.format != "JPEG":
        return _by_pillow(data, header, background)
    part = part if scales(header) else 1
    pixels = decode_jpeg(data, header, part)
    size, covered = (header.width, header.height), (header.width / part, header.height / part)
    return _Picture(pixels, size, covered, orientation_of(metadata_of_jpeg(data)))


def _by_pillow(data: memoryview, header: Header, background: str) -> _Picture:
    """Decode the parts of a PNG or WebP that its pixels need, or a whole file of another format."""
    file: bytes | memoryview = data
    metadata: Metadata | None = None
    if header.format == "PNG":
        file, metadata = pixels_of_png(data, header)
    elif header.format == "WEBP":
        file, metadata = pixels_of_webp(data)
    with opened(file, header.format) as image:
        check_size(image, header)
        try:
            complete = load_all(image, header)
        except (OSError, SyntaxError, ValueError) as error:
            raise UndecodableImage(_damage(data, header, error)) from error
        if not complete and rows_of_png(data, header) < header.height:
            raise UndecodableImage(_damage(data, header))
        pixels = np.array(rgb(image, header, background))
        orientation = orientation_of_opened(image) if metadata is None else orientation_of(metadata)
        return _Picture(pixels, image.size, image.size, orientation)


def _damage(data: memoryview, header: Header, error: Exception | None = None) -> str:
    if header.format != "PNG" and error:
        return f"the image cannot be decoded: {_in_one_line(error)}"
    return f"the image is damaged: {rows_of_png(data, header)} of {header.height} rows could be read"


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
