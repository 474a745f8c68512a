"""Tests of decoding one image: encoded bytes -> uint8 pixels, or an ImageError."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torchvision.models import MobileNet_V2_Weights
from torchvision.transforms import functional as reference

from harness.photographs import NAMES, encoded, jpeg, original, phone_jpeg, photograph, png_file
from pipeline.errors import ImageError, TooManyPixels, UnsupportedFormat
from pipeline.images.decode import decode
from pipeline.records import Transform
from tests.support.image_files import BAD, ODD_BUT_GOOD, png, png_16_bit, webp, with_orientation

EXACT = Transform(256, 224, "bilinear", "exact", ("JPEG", "PNG", "WEBP"), "drop")
FAST = replace(EXACT, decode="fast")
REDUCED = replace(FAST, resize_px=64, crop_px=56)
"""A transform that decodes a JPEG at 1/2 from a short side of 743 pixels on, and at 1/4 from 1485 on."""
LIMIT = 50_000_000

SIZES = [(451, 300), (300, 451), (500, 500), (257, 256), (256, 256), (225, 997), (100, 67), (224, 223), (3, 2), (1, 1)]
WIDE_AND_TALL = [(1, 7), (7, 1), (1, 300), (300, 1), (2000, 20), (20, 2000), (4001, 33)]

Pixels = NDArray[np.uint8]


def decoded(data: bytes, transform: Transform = EXACT, max_pixels: int = LIMIT) -> Pixels:
    return decode(memoryview(data), transform, max_pixels)


def by_torchvision(image: Image.Image, transform: Transform = EXACT) -> Pixels:
    """Return the pixels of the weights' own transforms, before they convert to float."""
    interpolation = reference.InterpolationMode(transform.interpolation)
    size = [transform.resize_px] * (2 if transform.squash else 1)
    resized = reference.resize(image.convert("RGB"), size, interpolation)
    return np.asarray(reference.center_crop(resized, [transform.crop_px]))


def difference(one: Pixels, other: Pixels) -> float:
    """Return the mean absolute difference, of 255."""
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


def scaled(image: Image.Image, short_px: int) -> Image.Image:
    """Return the picture with this many pixels along its shorter side."""
    times = short_px / min(image.size)
    size = (round(image.width * times), round(image.height * times))
    return image.resize(size, Image.Resampling.LANCZOS)


# ---- exact ----------------------------------------------------------------------------------------------------------


def test_the_reference_is_what_the_weights_do() -> None:
    """The reference of this file, converted and normalised, equals the weights' `transforms()`."""
    preset = MobileNet_V2_Weights.IMAGENET1K_V1.transforms()
    tensor = reference.to_tensor(Image.fromarray(by_torchvision(photograph("cat"))))
    expected = preset(photograph("cat"))
    assert reference.normalize(tensor, list(preset.mean), list(preset.std)).equal(expected)


@pytest.mark.parametrize("name", NAMES)
def test_exact_equals_torchvision_on_photographs(name: str) -> None:
    np.testing.assert_array_equal(decoded(original(name)), by_torchvision(Image.open(io.BytesIO(original(name)))))


@pytest.mark.parametrize("size", SIZES + WIDE_AND_TALL, ids=str)
def test_exact_equals_torchvision_at_any_size(size: tuple[int, int]) -> None:
    """`exact` equals torchvision for landscape, portrait, odd and extreme sizes, and below the crop's size."""
    image = photograph("temple").resize(size)
    np.testing.assert_array_equal(decoded(png(image)), by_torchvision(image))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest", "lanczos"])
@pytest.mark.parametrize(("resize_px", "crop_px"), [(232, 224), (299, 299), (64, 63), (1, 1)])
def test_exact_equals_torchvision_for_any_transform(resize_px: int, crop_px: int, interpolation: str) -> None:
    transform = replace(EXACT, resize_px=resize_px, crop_px=crop_px, interpolation=interpolation)
    expected = by_torchvision(photograph("rocket"), transform)
    np.testing.assert_array_equal(decoded(png(photograph("rocket")), transform), expected)


@pytest.mark.parametrize("size", [(500, 375), (375, 501), (1, 300)], ids=str)
def test_exact_equals_torchvision_where_proportions_change(size: tuple[int, int]) -> None:
    image, squash = photograph("temple").resize(size), replace(EXACT, squash=True)
    np.testing.assert_array_equal(decoded(png(image), squash), by_torchvision(image, squash))


@pytest.mark.parametrize("name", [name for name in ODD_BUT_GOOD if "16 bit" not in name])
@pytest.mark.filterwarnings("ignore:Palette images with Transparency", "ignore:Tag data larger", "ignore:Corrupt EXIF")
def test_exact_equals_torchvision_on_odd_files(name: str) -> None:
    """`exact` equals torchvision on odd files, except 16-bit ones, which Pillow clips and Darkroom scales."""
    file = ODD_BUT_GOOD[name]
    np.testing.assert_array_equal(decoded(file), by_torchvision(Image.open(io.BytesIO(file))))


# ---- fast -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_fast_is_exact_but_for_a_few_pixels_where_nothing_is_reduced(name: str) -> None:
    """Without reduced decoding `fast` equals `exact`, except that a few pixels differ by one level through rounding."""
    image, short = photograph(name), [256, 257, 511, 512, 513, 540, 768, 1023, 1024, 1080, 1536, 2048, 2160, 2969]
    for number, side in enumerate(short[NAMES.index(name) % 3 :: 3]):
        file = jpeg(scaled(image, side), subsampling=number % 3)
        assert difference(decoded(file, FAST), decoded(file)) < 0.05, side


@pytest.mark.parametrize(
    "size", [(1113, 742), (1114, 743), (743, 1115), (2227, 1484), (2228, 1485), (1485, 2229)], ids=str
)
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_fast_is_close_to_exact_where_it_is_reduced(size: tuple[int, int], subsampling: int) -> None:
    """With reduced decoding `fast` is close to `exact`, also around the sizes where 1/2 and 1/4 begin."""
    image = photograph("temple").resize(size, Image.Resampling.LANCZOS)
    for file in (jpeg(image, subsampling=subsampling), jpeg(image.convert("L"))):
        exact = decoded(file, replace(REDUCED, decode="exact"))
        assert difference(decoded(file, REDUCED), exact) < (1 if min(size) > 742 else 0.05)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_fast_leaves_out_what_scaling_adds(orientation: int) -> None:
    """Rows that reduced decoding adds are left out: 1281 rows at 1/2 give 641, of which the picture covers 640.5."""
    image = photograph("temple").resize((1921, 1281))
    file = with_orientation(image, orientation)
    assert difference(decoded(file, REDUCED), by_torchvision(image, REDUCED)) < 1


def test_fast_is_close_to_exact_on_4000_by_3000() -> None:
    assert difference(decoded(phone_jpeg(), FAST), decoded(phone_jpeg())) < 1.5


@pytest.mark.parametrize("size", SIZES + WIDE_AND_TALL, ids=str)
def test_fast_is_close_to_exact_at_any_size(size: tuple[int, int]) -> None:
    """`fast` is close to `exact` at any size, also where the crop is a whole side and might leave the image."""
    file = jpeg(photograph("temple").resize(size))
    assert difference(decoded(file, FAST), decoded(file)) < 3


def test_fast_never_leaves_the_image() -> None:
    """The crop box, which is computed in floats, never reaches beyond the image at any size."""
    transform = replace(FAST, resize_px=224)
    for width in range(1, 600, 7):
        for height in (width, 225, 311):
            file = png_file((width, height), [bytes(height * (1 + width))], colour=0)
            assert decoded(file, transform).shape == (224, 224, 3)


def test_fast_decodes_whole_what_would_become_too_small() -> None:
    """An image that would become too small is decoded whole: up to the last such size it equals a PNG of its pixels."""
    file = jpeg(photograph("astronaut").resize((742, 742)))
    as_png = png(Image.open(io.BytesIO(file)))
    np.testing.assert_array_equal(decoded(file, REDUCED), decoded(as_png, REDUCED))
    reduced = jpeg(photograph("astronaut").resize((743, 743)))
    assert difference(decoded(reduced, REDUCED), decoded(png(Image.open(io.BytesIO(reduced))), REDUCED)) > 0


# ---- orientation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "transform",
    [EXACT, FAST, REDUCED, replace(REDUCED, squash=True)],
    ids=["exact", "fast", "reduced", "reduced and squashed"],
)
def test_every_orientation_of_a_jpeg_gives_the_upright_picture(orientation: int, transform: Transform) -> None:
    """Every Exif orientation gives the upright picture, also where the JPEG is decoded at half of its size."""
    image = photograph("temple").resize((1280, 848))
    file = with_orientation(image, orientation)
    assert difference(decoded(file, transform), by_torchvision(image, transform)) < 1.5


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_upright(orientation: int) -> None:
    file = with_orientation(photograph("cat"), orientation, "PNG")
    np.testing.assert_array_equal(decoded(file), by_torchvision(photograph("cat")))


# ---- odd files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", [EXACT, FAST], ids=["exact", "fast"])
@pytest.mark.parametrize("name", ODD_BUT_GOOD)
@pytest.mark.filterwarnings("ignore:Palette images with Transparency", "ignore:Tag data larger", "ignore:Corrupt EXIF")
def test_odd_files_still_show_the_cat(name: str, transform: Transform) -> None:
    """Odd files show the cat with the brightness of the original; grey ones a grey cat, 1-bit ones its dithering."""
    grey = any(word in name for word in ("grey", "1 bit"))
    image = photograph("cat").convert("L") if grey else photograph("cat")
    pixels, expected = decoded(ODD_BUT_GOOD[name], transform), by_torchvision(image)
    assert pixels.shape == (224, 224, 3)
    assert pixels.dtype == np.uint8
    assert difference(pixels, expected) < (45 if "1 bit" in name else 4)
    assert abs(float(pixels.mean()) - float(expected.mean())) < 3


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("transform", [EXACT, FAST], ids=["exact", "fast"])
def test_16_bits_are_scaled_and_not_clipped(mode: str, transform: Transform) -> None:
    image = photograph("espresso").convert(mode)
    np.testing.assert_array_equal(decoded(png_16_bit(image), transform), decoded(png(image), transform))


@pytest.mark.parametrize("name", ["png animated", "webp animated", "jpeg of two pictures"])
def test_the_first_picture_of_many_counts(name: str) -> None:
    """A file with several pictures is decoded as its first one."""
    cat, mirrored = by_torchvision(photograph("cat")), by_torchvision(ImageOps.mirror(photograph("cat")))
    assert difference(decoded(ODD_BUT_GOOD[name]), cat) < 4 < difference(decoded(ODD_BUT_GOOD[name]), mirrored)


# ---- bad files ------------------------------------------------------------------------------------------------------

GENERAL = (
    "the image (cannot be decoded: |is damaged: [0-9]+ of [0-9]+ (rows could be read|bytes of its pixels are there))"
)
TELLING = {
    "empty": "the image has no bytes",
    "png bomb": "the image has 50000 x 50000 = 2500000000 pixels; the limit is 50000000 (max_image_pixels)",
    **{
        name.lower(): f"unsupported image format ({name}); this service accepts JPEG, PNG and WebP"
        for name in ("text", "HTML", "TIFF", "GIF", "AVIF")
    },
}


@pytest.mark.parametrize("transform", [EXACT, FAST], ids=["exact", "fast"])
@pytest.mark.parametrize("name", BAD)
def test_bad_files_raise_their_class(name: str, transform: Transform) -> None:
    """A bad file raises the error of its kind. The message is one line, says the cause, and shows no internals."""
    data, expected = BAD[name]
    with pytest.raises(ImageError) as raised:
        decoded(data, transform)
    message = str(raised.value)
    assert type(raised.value) is expected
    assert message == TELLING[name] if name in TELLING else re.match(GENERAL, message)
    assert "\n" not in message
    assert "<" not in message  # no <_io.BytesIO object at 0x7f...>


def test_a_format_is_served_only_where_it_is_allowed() -> None:
    cat = photograph("cat")
    files = {"JPEG": jpeg(cat), "PNG": png(cat), "WEBP": webp(cat)}
    files |= {name: encoded(cat, name) for name in ("GIF", "BMP", "AVIF")}
    for allowed in files:
        only = replace(EXACT, formats=(allowed,))
        assert decoded(files[allowed], only).shape == (224, 224, 3)
        for name in files.keys() - {allowed}:
            message = f"unsupported image format ({name}); this service accepts {allowed}"
            with pytest.raises(UnsupportedFormat, match=f"(?i)^{re.escape(message)}$"):
                decoded(files[name], only)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_the_pixel_limit_is_exact(file_format: str) -> None:
    """The pixel limit is exact, and the header's size counts, also where `fast` decodes fewer pixels."""
    file = encoded(photograph("cat").resize((640, 480)), file_format)
    assert decoded(file, FAST, 640 * 480).shape == (224, 224, 3)
    with pytest.raises(TooManyPixels, match=r"640 x 480 = 307200 pixels; the limit is 307199 \(max_image_pixels\)$"):
        decoded(file, FAST, 640 * 480 - 1)


@pytest.mark.parametrize("size", [(1, 400_000), (400_000, 1)], ids=str)
def test_a_thin_image_does_not_grow_beyond_memory(size: tuple[int, int]) -> None:
    """A thin image that the resize would enlarge to 100 GB is refused by `exact`; `fast` computes only the crop."""
    file = png_file(size, [bytes(size[1] * (1 + size[0]))], colour=0)
    with pytest.raises(TooManyPixels, match=r"the limit is"):
        decoded(file)
    assert decoded(file, FAST).shape == (224, 224, 3)  # `fast` computes only the crop
