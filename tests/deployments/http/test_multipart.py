"""Tests of images in a multipart body, which arrives in pieces of any size and is marked in different ways."""

import base64
import gc
from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.http.multipart import MultipartImages
from deployments.request_errors import MalformedRequest, TooManyImages
from harness.photographs import jpeg, photograph
from pipeline.records import EncodedImage
from tests.support.pushed import every, images_in, in_pieces, outcome_of

TYPE = "multipart/form-data; boundary=x"
HEAD = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
MAX_IMAGES = 3
CAT = jpeg(photograph("cat"))

LINES = st.sampled_from(
    [
        HEAD,
        b"\r\n" + HEAD,
        b"\r\n--x\r\nContent-Type: image/jpeg\r\ncontent-DISPOSITION:  form-data;filename=b;name=a\r\n\r\n",
        b'\r\n--x\r\nContent-Disposition: form-data; name="xn--a"; filename="\xff"\r\n\r\n',
        b'\r\n--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n',
        b"\r\n--x\r\nContent-Disposition: form-data\r\nContent-Transfer-Encoding: base64\r\n\r\n",
        b"\r\n--x\r\nContent-Disposition : form-data\r\n\r\n",
        b"\r\n--x\r\n: nothing\r\n\r\n",
        b"\r\n--x\r\n\r\n",
        b"\r\n--x\r\n" + b"a: b\r\n" * 9 + b"\r\n",
        b"\r\n--x\r\na: " + b"b" * 5000 + b"\r\n\r\n",
        b"\r\n--x \t\r\n",
        b"--x  \r\n",
        b"\r\n--x",
        b"\r\n--x--",
        b"\r\n--x--\r\n",
        b"--x--\r\n",
        b"\r\n--y\r\n",
        b"\r\n",
        b"\r",
        b"-",
        b"x" * 5000,
        b"\xff\xd8\xff\0",
    ]
)
PARTS = st.lists(st.one_of(LINES, st.just(b"\r\n" + HEAD), st.binary(max_size=8)), max_size=10)


def part(headers: Sequence[bytes], content: bytes) -> bytes:
    return b"--x\r\n" + b"".join(header + b"\r\n" for header in headers) + b"\r\n" + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--x--\r\n"


def disposition(parameters: str) -> bytes:
    return b"Content-Disposition: form-data; " + parameters.encode()


def read(body: bytes, cuts: Sequence[int] = (), content_type: str = TYPE) -> list[bytes | str]:
    return images_in(MultipartImages(content_type, MAX_IMAGES), in_pieces(body, cuts))


NAMED, FIELD = disposition('name="image"; filename="a.jpg"'), disposition('name="image"')
TEXT = part([disposition('name="top_k"')], b"3")


@pytest.mark.parametrize(
    "headers",
    [
        [NAMED],
        [NAMED, b"Content-Type: text/plain"],
        [disposition("name=image; filename=a.jpg")],
        [disposition("name=\"image\"; filename*=UTF-8''%e7%8c%ab.jpg")],
        [disposition('name="a; filename=\\"\\""; FILENAME = "b"')],
        [b"Content-Disposition: attachment; filename=a.jpg"],
        [FIELD, b"Content-Type: image/jpeg"],
        [FIELD, b"content-type: IMAGE/jpeg; name=a"],
        [FIELD, b"Content-Type: application/octet-stream"],
        [FIELD, b"Content-Type: binary/octet-stream", b"Content-Length: 9"],
        [FIELD],
        [FIELD, b"Content-Type: text/plain; charset=utf-8"],
        [FIELD, b"Content-Transfer-Encoding: binary"],
        [disposition('name="image"; filename=""')],
        [b"Content-Type: image/jpeg"],
        [],
    ],
    ids=str,
)
def test_an_image_is_one_however_it_is_marked(headers: list[bytes]) -> None:
    """A part is an image by its file name, its type or its bytes; text fields around it are ignored, also long ones."""
    body = form(TEXT, part(headers, CAT), part([FIELD], b"caf\xe9 \n" * 200), part([disposition("name=empty")], b""))
    assert read(body) == [CAT]
    assert images_in(MultipartImages(TYPE, 1), every(997, body)) == [CAT]


@pytest.mark.parametrize("headers", [[FIELD], [FIELD, b"Content-Type: text/plain"], [b"Content-Type: text/plain"], []])
def test_a_form_without_a_file_is_told(headers: list[bytes]) -> None:
    """A form without a file is refused with a hint: `curl -F image=photo.jpg` sends only the name of the file."""
    with pytest.raises(
        MalformedRequest, match=r"no file, only text \(top_k, (image|without a name)\).* \(mind the @\)"
    ):
        read(form(TEXT, part(headers, b"photo.jpg")))


def test_a_file_that_nobody_has_chosen_is_none() -> None:
    """A file field that a user left empty is ignored. An empty file with a name keeps its place."""
    unchosen = part([disposition('name="image"; filename=""'), b"Content-Type: application/octet-stream"], b"")
    assert read(form(unchosen, part([NAMED], CAT))) == [CAT]
    assert read(form(unchosen)) == []
    assert read(form(part([NAMED], b""), part([NAMED], CAT))) == [b"", CAT]


def test_text_around_the_parts_is_skipped() -> None:
    """Text before and after the parts is skipped (RFC 2046); a boundary counts only at the beginning of a line."""
    body = (
        b"This is a multi-part message. --x\r\n--xx\r\n " + b"y" * 60_000 + b"\r\n" + form(part([NAMED], CAT)) + b"end"
    )
    assert read(body) == [CAT]
    for size in (1, 4096):
        assert images_in(MultipartImages(TYPE, 1), every(size, body)) == [CAT]


@pytest.mark.parametrize(
    ("body", "content_type", "says"),
    [
        (b"", "multipart/form-data", "names no boundary.* set by hand"),
        (b"", "multipart/form-data; boundary=", "names no boundary"),
        (b"", 'multipart/form-data; boundary=""', "names no boundary"),
        (b"", "multipart/form-data; boundary=" + "x" * 300, "cannot be read: Boundary length 300"),
        (form(part([NAMED], CAT)), "multipart/form-data; boundary=y", "no line begins with --y, by the boundary"),
        (b"z" * 70_000, TYPE, "no line begins with --x"),
        (b"", TYPE, "no line begins with --x"),
        (form(part([NAMED], CAT))[:-6], TYPE, "ends before its closing boundary"),
        (form(part([b"a" * 5000], CAT)), TYPE, "begins or ends in a way that no form does"),
        (form(TEXT * 257), TYPE, "more than 256 text fields"),
        (
            form(part([NAMED], b"z" * (1 << 20) + b"\r\n--xy" * 600)),
            TYPE,
            "too many lines of it begin with its boundary",
        ),
    ],
    ids=range(11),
)
def test_a_body_that_is_no_form_is_told_why(body: bytes, content_type: str, says: str) -> None:
    with pytest.raises(MalformedRequest, match=says):
        read(body, content_type=content_type)


def test_a_transfer_encoding_is_undone_or_named() -> None:
    """A base64 transfer encoding, which mail libraries still write, is decoded; another one is named in the error."""
    encoded, quoted = b"Content-Transfer-Encoding: BASE64", b"Content-Transfer-Encoding: quoted-printable"
    text = base64.encodebytes(CAT).replace(b"\n", b"\r\n")
    hello = part([FIELD, encoded], base64.b64encode(b"hello"))
    one, other, third = read(
        form(part([NAMED, encoded], text), part([FIELD, encoded], text), hello, part([NAMED, quoted], CAT))
    )
    assert (one, other) == (CAT, CAT)
    assert "unsupported Content-Transfer-Encoding: quoted-printable" in str(third)
    assert "it holds '!'" in str(read(form(part([NAMED, encoded], b"!")))[0])


def test_more_images_than_allowed_are_refused() -> None:
    """More images than allowed are refused, whether the parts are marked as files or not."""
    for headers in ([NAMED], [FIELD]):
        assert len(read(form(part(headers, CAT) * MAX_IMAGES))) == MAX_IMAGES
        with pytest.raises(TooManyImages, match=r"more than 3 images, the limit \(max_images_per_request\)"):
            read(form(part(headers, CAT) * (MAX_IMAGES + 1)))


@given(PARTS, st.lists(st.integers(0, 6000), max_size=8))
@settings(max_examples=600, deadline=None)
def test_where_a_body_is_cut_changes_nothing(parts: list[bytes], cuts: list[int]) -> None:
    """A body gives the same images or the same refusal wherever it is split."""
    body = b"".join(parts)
    whole = outcome_of(MultipartImages(TYPE, MAX_IMAGES), iter([body]))
    assert outcome_of(MultipartImages(TYPE, MAX_IMAGES), in_pieces(body, cuts)) == whole


def test_files_are_whole_wherever_the_body_is_cut() -> None:
    files = [b"", b"\r\n--", b"one\r\n--y", bytes(range(256)) * 20]
    body = b"".join(HEAD + file + b"\r\n" for file in files[1:]) + b"--x--\r\n"
    for cut in range(len(body)):
        assert read(body, [cut, cut + 1, cut + 100]) == files[1:]
    assert read(HEAD + b"\r\n--x--") == files[:1]


def test_a_file_is_not_copied() -> None:
    """The bytes of an image are a view of the piece in which they arrived, not a copy."""
    reader, piece = MultipartImages(TYPE, MAX_IMAGES), HEAD + b"y" * 5000 + b"\r\n--x--\r\n"
    reader.write(piece)
    (image,) = reader.finish()
    assert isinstance(image, EncodedImage)
    (view,) = image.pieces
    assert isinstance(view, memoryview)
    assert view.obj is piece


def test_nothing_of_a_refused_body_is_left() -> None:
    """The images of a refused body are freed at once. Until the next garbage collection no limit would count them."""

    def left() -> int:
        before = encoded_images()
        reader = MultipartImages(TYPE, MAX_IMAGES)
        with suppress(TooManyImages):
            images_in(reader, iter([HEAD + b"y" * 5000 + b"\r\n"] * 4))
        del reader
        return encoded_images() - before

    gc.collect()
    gc.disable()
    try:
        assert left() == 0
    finally:
        gc.enable()


def encoded_images() -> int:
    return sum(type(thing) is EncodedImage for thing in gc.get_objects())
