"""Tests of HEIC: it is decoded if `formats` has it and pillow-heif is installed, and otherwise named in the error."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from harness.photographs import photograph
from pipeline.errors import UndecodableImage, UnsupportedFormat
from pipeline.images.decode import decode
from pipeline.images.header import read_header
from pipeline.records import Prediction, Transform
from tests.support.decode_bench import EXACT, TRANSFORM, outcomes, started
from tests.support.image_files import png

pillow_heif = pytest.importorskip("pillow_heif", reason="pillow-heif comes with the extras heif and test")

pillow_heif.register_heif_opener()
CAT = Image.fromarray(np.asarray(photograph("cat")))
FORMATS = ("JPEG", "HEIF")


def heic(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, quality=95, **options)
    return file.getvalue()


@pytest.mark.parametrize("transform", [TRANSFORM, EXACT], ids=["fast", "exact"])
def test_a_heic_shows_its_picture(transform: Transform) -> None:
    found = decode(memoryview(heic(CAT)), replace(transform, formats=FORMATS), 1_000_000)
    expected = decode(memoryview(png(CAT)), EXACT, 1_000_000)
    assert np.abs(found.astype(int) - expected).mean() < 3


def test_its_header_is_read_without_a_decoder() -> None:
    """The header of HEIC is read without a decoder; its sides are the coded ones, which are even."""
    header = read_header([heic(CAT)], FORMATS)
    assert (header.format, header.width, header.height) == ("HEIF", 452, 300)


@pytest.mark.parametrize("transform", [TRANSFORM, EXACT], ids=["fast", "exact"])
def test_one_on_its_side_is_upright(transform: Transform) -> None:
    """A rotated HEIC comes out upright: its decoder turns it, so its header and its pixels have different sides."""
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = CAT.transpose(Image.Transpose.ROTATE_90)
    file = io.BytesIO()
    stored.save(file, "HEIF", quality=95, exif=exif.tobytes())
    found = decode(memoryview(file.getvalue()), replace(transform, formats=FORMATS), 1_000_000)
    expected = decode(memoryview(png(CAT)), EXACT, 1_000_000)
    assert np.abs(found.astype(int) - expected).mean() < 3


def test_transparency_lies_on_the_background() -> None:
    image = CAT.convert("RGBA")
    image.putalpha(0)
    found = decode(memoryview(heic(image)), replace(EXACT, formats=FORMATS, background="#102030"), 1_000_000)
    assert (found == (0x10, 0x20, 0x30)).all()


def test_where_it_is_not_switched_on_it_is_named() -> None:
    with pytest.raises(UnsupportedFormat, match=r"\(HEIC\); this service accepts JPEG, PNG and WebP"):
        decode(memoryview(heic(CAT)), EXACT, 1_000_000)


@pytest.mark.parametrize("formats", [FORMATS, ("HEIF",)], ids=["among others", "alone"])
def test_a_worker_decodes_it_in_its_sandbox(formats: tuple[str, ...]) -> None:
    with started(1, transform=replace(TRANSFORM, formats=formats)) as loader:
        (outcome,) = outcomes(loader.submit([heic(CAT)]))
    assert isinstance(outcome, Prediction), outcome


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
def test_one_that_is_cut_off_is_damage(kept: float) -> None:
    file = heic(CAT)
    with pytest.raises(UndecodableImage):
        decode(memoryview(file[: int(kept * len(file))]), replace(EXACT, formats=FORMATS), 1_000_000)
