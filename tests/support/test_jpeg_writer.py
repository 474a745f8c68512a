"""Tests that Pillow reads the JPEGs that only our writer makes, and that they show the picture."""

import io

import numpy as np
import pytest
from PIL import Image

from harness.photographs import jpeg, photograph
from tests.support.arithmetic_jpegs import ARITHMETIC
from tests.support.jpeg_segments import joined, segments
from tests.support.jpeg_writer import FULL, coded, lossless, progressive, sequential

CAT = photograph("cat").resize((97, 61))


def _difference(file: bytes, image: Image.Image) -> float:
    """Return the mean absolute difference, of 255."""
    found = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"), int)
    return float(np.abs(found - np.asarray(image.convert("RGB"), int)).mean())


@pytest.mark.parametrize(
    "samplings",
    [FULL, ((2, 2), (1, 1), (1, 1)), ((3, 1), (1, 1), (1, 1)), ((2, 2), (2, 1), (1, 2)), ((2, 2),)],
    ids=str,
)
def test_every_sampling_shows_the_picture(samplings: tuple[tuple[int, int], ...]) -> None:
    """Every sampling shows the picture, in one scan or many; restart markers change no pixel."""
    picture = coded(CAT, samplings)
    plain = sequential(picture)
    assert _difference(plain, CAT if len(samplings) > 1 else CAT.convert("L")) < 2.5
    for other in (sequential(picture, restart=3), progressive(picture, [(n, n) for n in range(1, 64)])):
        assert _difference(other, Image.open(io.BytesIO(plain))) == 0


@pytest.mark.parametrize("image", [CAT, CAT.convert("L")], ids=["RGB", "L"])
def test_lossless_is(image: Image.Image) -> None:
    assert _difference(lossless(image), image) == 0


def test_arithmetic_files_show_the_picture() -> None:
    for name, file in ARITHMETIC.items():
        expected = CAT.resize((40, 32)).convert("L" if name == "grey" else "RGB")
        assert _difference(file, expected) < 12


def test_a_file_is_taken_apart_and_put_together() -> None:
    for file in (sequential(coded(CAT)), jpeg(CAT, comment=b"a comment", progressive=True)):
        assert joined(segments(file)) == file
