"""Files in a multipart body, in whatever pieces the body arrives."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from deployments.multipart import read_files
from pipeline.errors import ClientError, MalformedRequest, TooManyImages
from pipeline.records import EncodedImage

TYPE = "multipart/form-data; boundary=x"
HEAD = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
MAX_FILES = 3

LINES = st.sampled_from(
    [
        HEAD,
        b"\r\n" + HEAD,
        b"\r\n--x\r\nContent-Type: image/jpeg\r\ncontent-DISPOSITION:  form-data;filename=b;name=a\r\n\r\n",
        b'\r\n--x\r\nContent-Disposition: form-data; name="xn--a"; filename="\xff"\r\n\r\n',
        b'\r\n--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n',
        b"\r\n--x\r\nContent-Disposition: form-data\r\n\r\n",
        b"\r\n--x\r\nContent-Disposition : form-data\r\n\r\n",
        b"\r\n--x\r\n: nothing\r\n\r\n",
        b"\r\n--x\r\n\r\n",
        b"\r\n--x\r\n" + b"a: b\r\n" * 9 + b"\r\n",
        b"\r\n--x\r\na: " + b"b" * 5000 + b"\r\n\r\n",
        b"\r\n--x \t\r\n",
        b"\r\n--x",
        b"\r\n--x--",
        b"\r\n--x--\r\n",
        b"--x--\r\n",
        b"\r\n--y\r\n",
        b"\r\n",
        b"\r",
        b"-",
        b"x" * 5000,
        b"\xff\xd8\xff",
    ]
)
PARTS = st.lists(st.one_of(LINES, st.just(b"\r\n" + HEAD), st.binary(max_size=8)), max_size=10)
TYPES = st.sampled_from([TYPE] * 6 + [f"{TYPE}; charset={name}" for name in ("idna", "undefined", "rot13", "no", "")])


def in_pieces(body: bytes, cuts: Sequence[int]) -> list[bytes]:
    """The body, cut at these places."""
    at = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    return [body[start:end] for start, end in pairwise(at)]


async def stream(pieces: Sequence[bytes]) -> AsyncGenerator[bytes, None]:
    for piece in pieces:
        yield piece


def read(pieces: Sequence[bytes], content_type: str = TYPE) -> list[bytes]:
    images = asyncio.run(read_files(stream(pieces), content_type, MAX_FILES))
    return [b"".join(image.pieces) for image in images]


class WholeBody(MultiPartParser):
    """Starlette's parser, kept in memory; it alone would take a body that was cut off for a whole one."""

    spool_max_size = 1 << 62
    complete = False

    def on_end(self) -> None:
        """The closing boundary was read."""
        self.complete = True


async def read_by_starlette(pieces: Sequence[bytes], content_type: str) -> list[bytes]:
    headers = Headers({"content-type": content_type})
    parser = WholeBody(headers, stream(pieces), max_files=MAX_FILES, max_fields=0)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise (TooManyImages if "files" in error.message else MalformedRequest)(error.message) from None
    except UnicodeError as error:
        raise MalformedRequest(str(error)) from None
    files = [await part.read() for _, part in form.multi_items() if isinstance(part, UploadFile)]
    for file in parser._files_to_close_on_error:  # also one that was cut off
        file.close()
    if not parser.complete:
        raise MalformedRequest("it ends before its closing boundary")
    return files


def outcome(files: Callable[[], list[bytes]]) -> list[bytes] | tuple[type[ClientError], str]:
    """The files, or how the body is refused; of a field it is enough that it is."""
    try:
        return files()
    except ClientError as error:
        said = str(error).removeprefix("the multipart body cannot be read: ")
        is_of_limits = isinstance(error, TooManyImages) or "every part" in said or "fields" in said
        return type(error), "" if is_of_limits else said


@given(PARTS, st.lists(st.integers(0, 6000), max_size=8), TYPES)
@settings(max_examples=1500, deadline=None)
def test_the_same_is_read_as_by_starlette(parts: list[bytes], cuts: list[int], content_type: str) -> None:
    """The same files or the same refusal, whatever is sent."""
    pieces = in_pieces(b"".join(parts), cuts)
    expected = outcome(lambda: asyncio.run(read_by_starlette(pieces, content_type)))
    assert outcome(lambda: read(pieces, content_type)) == expected


def test_files_are_whole_wherever_the_body_is_cut() -> None:
    files = [b"", b"\r\n--", b"one\r\n--y", bytes(range(256)) * 20]
    body = b"".join(HEAD + file + b"\r\n" for file in files[1:]) + b"--x--\r\n"
    for cut in range(len(body)):
        assert read(in_pieces(body, [cut, cut + 1, cut + 100])) == files[1:]
    assert read([HEAD + b"\r\n--x--"]) == files[:1]


def test_a_file_is_not_copied() -> None:
    """It is a view of the piece in which it came."""
    piece = HEAD + b"y" * 5000 + b"\r\n--x--\r\n"
    (image,) = asyncio.run(read_files(stream([piece]), TYPE, MAX_FILES))
    (view,) = image.pieces
    assert isinstance(view, memoryview)
    assert view.obj is piece


def test_nothing_of_a_refused_body_is_left() -> None:
    """Its files are freed at once, not when the garbage collector next runs: until then no limit would count them."""

    async def left() -> int:
        before = encoded_images()
        with suppress(TooManyImages):
            await read_files(stream([HEAD + b"y" * 5000 + b"\r\n"] * 4), TYPE, MAX_FILES)
        return encoded_images() - before

    gc.collect()
    gc.disable()
    try:
        assert asyncio.run(left()) == 0
    finally:
        gc.enable()


def encoded_images() -> int:
    return sum(type(thing) is EncodedImage for thing in gc.get_objects())
