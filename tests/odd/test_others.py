"""GIF, BMP and AVIF, where they are served: pixels as torchvision's, or an error of the right kind."""

import numpy as np
import pytest
from torchvision.transforms import functional as reference

from pipeline.decode import decode
from pipeline.errors import ImageError
from pipeline.records import Transform
from tests.odd.judge import status_of
from tests.odd.odd_file import OddFile
from tests.odd.others import FORMATS, others


@pytest.mark.parametrize("mode", ["fast", "exact"])
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of much that it reads nevertheless
def test_every_file_gets_its_answer(mode: str, subtests: pytest.Subtests) -> None:
    for file in others():
        if file.name == "transparent":
            continue  # point 10
        with subtests.test(str(file)):
            assert _said(file, mode) in file.statuses


def _said(file: OddFile, mode: str) -> int:
    try:
        pixels = decode(memoryview(file.data), Transform(256, 224, "bilinear", mode, FORMATS), 50_000_000)
    except ImageError as error:
        return status_of(error)
    if file.picture is not None:
        expected = np.asarray(reference.center_crop(reference.resize(file.picture, [256]), [224]), int)
        assert np.abs(pixels - expected).mean() < (1.5 if mode == "fast" else 0.01)
    return 200
