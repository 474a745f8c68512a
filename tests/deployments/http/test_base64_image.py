"""Tests of images that are sent as base64 text, which may arrive in pieces of any size."""

import base64
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.http.base64_image import Base64Image
from tests.support.pushed import content_of

IMAGE = random.Random(5).randbytes(5000)
TEXT = base64.b64encode(IMAGE).decode()
PERCENT = TEXT.replace("+", "%2B").replace("/", "%2f").replace("=", "%3D")


def decoded(text: str, size: int = 1 << 20) -> bytes | str:
    image, data = Base64Image(), text.encode("utf-8", "surrogatepass")
    for start in range(0, len(data), size):
        image.write(data[start : start + size])
    return content_of(image.finish())


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT.rstrip("="),
        base64.urlsafe_b64encode(IMAGE).decode(),
        base64.urlsafe_b64encode(IMAGE).decode().rstrip("="),
        base64.encodebytes(IMAGE).decode(),
        base64.encodebytes(IMAGE).decode().replace("\n", "\r\n\t   "),
        f"  \n{TEXT}  \n",
        f"data:image/jpeg;base64,{TEXT}",
        f"\n Data:IMAGE/JPEG;name=a.jpg; BASE64 ,{TEXT}",
        f"DATA:;base64;charset=utf-8,{TEXT}",
        f"data:image/jpeg;base64,{PERCENT}",
        f"data:;base64,{''.join(f'%{byte:02x}' for byte in TEXT.encode())}",
        "data:image/jpeg," + "".join(f"%{byte:02X}" for byte in IMAGE),
    ],
    ids=range(13),
)
def test_an_image_is_decoded_however_it_is_written(text: str) -> None:
    for size in (1, 3, 1000, 1 << 20):
        assert decoded(text, size) == IMAGE


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (TEXT.replace("+", " "), "spaces inside it, which were plus signs"),
        (f"data:;base64,{TEXT.replace('+', ' ')}", "spaces inside it, which were plus signs"),
        ("AAAA  BBBB", "spaces inside"),
        ("data:image/jpeg;base64" + TEXT, "has no comma (data:image/jpeg;base64"),
        ("data:image/jpeg;base64", "has no comma"),
        ("data:" + "x" * 2000 + ",AAAA", "has no comma"),
        ("data:;base64,AAA%", "ends behind a %"),
        ("data:;base64,AAA%4", "ends behind a %"),
        ("data:;base64,AAA%4zAAAA", "no two hexadecimal digits"),
        ("AAAA%2BAA", "holds '%', as if it were percent-encoded"),
        ("https://example.org/cat.jpg", "holds ':'; send the bytes of the image as base64"),
        ("photo.jpg", "holds '.'"),
        ("AAAA\0", r"holds '\x00'"),
        ("AAA\u20ac", "a character outside ASCII"),
        ("\ud800", "a character outside ASCII"),
        ("AAAAA", "has been cut off"),
        ("AAAA===", "has been cut off"),
        ("AA=A", "more follows the ="),
        ("AA==AAAA", "more follows the ="),
    ],
    ids=range(19),
)
def test_text_that_is_no_image_is_told_why(text: str, says: str) -> None:
    """Text that is not valid base64 is refused with the same reason wherever it is split."""
    for size in (1, 5, 1 << 20):
        assert says in str(decoded(text, size))


@given(st.text(alphabet='data:;base64,%2F+/-_= \nAé\\"', max_size=60), st.integers(1, 9))
@settings(max_examples=400, deadline=None)
def test_where_text_is_cut_changes_no_image(text: str, size: int) -> None:
    """Text that is split anywhere gives the same bytes, or is refused, as the whole text is."""
    whole, cut = decoded(text), decoded(text, size)
    assert whole == cut or (isinstance(whole, str) and isinstance(cut, str))


@given(st.binary(max_size=300))
def test_the_same_is_decoded_as_by_python(image: bytes) -> None:
    assert decoded(base64.b64encode(image).decode()) == image
