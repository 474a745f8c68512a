"""Tests of the orientation: it is that of Exif or else of XMP, and damaged metadata cost only the orientation."""

import pytest
from PIL import Image

from pipeline.images.orientation import Metadata, orientation_of


def exif(orientation: int) -> bytes:
    made = Image.Exif()
    made[0x0112] = orientation
    return made.tobytes()


def xmp(orientation: int) -> bytes:
    return b'<rdf:Description tiff:Orientation="%d"/>' % orientation


@pytest.mark.parametrize(
    ("metadata", "orientation"),
    [
        (Metadata(), 1),
        (Metadata(exif(6)), 6),
        (Metadata(b"Exif\0\0" + exif(8)), 8),
        (Metadata(exif(6), xmp(3)), 6),
        (Metadata(b"", xmp(3)), 3),
        (Metadata(b"", b"<tiff:Orientation>5</tiff:Orientation>"), 5),
        (Metadata(exif(9)), 1),
        (Metadata(exif(0), xmp(3)), 1),
        (Metadata(b"", xmp(9)), 1),
        (Metadata(b"garbage"), 1),
        (Metadata(b"Exif\0\0"), 1),
        (Metadata(exif(6)[:16]), 1),
    ],
)
def test_the_orientation_is_found(metadata: Metadata, orientation: int) -> None:
    assert orientation_of(metadata) == orientation
