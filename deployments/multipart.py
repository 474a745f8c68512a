"""Reads a multipart/form-data body (RFC 7578) while it arrives: the pieces of the body -> the files in it.

The parser is python-multipart's, as in Starlette's `request.form()`, which copies each file three times more: it passes
files on through temporary files.
"""

import codecs
from collections.abc import AsyncIterable
from typing import Final

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from deployments.pieces import add_piece
from pipeline.errors import MalformedRequest, TooManyImages
from pipeline.records import Bytes, EncodedImage

_FALLBACK_CHARSET: Final = "latin-1"


async def read_files(body: AsyncIterable[bytes], content_type: str, max_files: int) -> list[EncodedImage]:
    """Returns the files of a body, in order, as views of the pieces in which it arrives.

    Args:
        body: its pieces.
        content_type: of the request; it names the boundary.
        max_files: the most files that the body may hold.

    Raises:
        MalformedRequest: the body is not multipart/form-data or has been cut off, or a part is not a file.
        TooManyImages: it holds more files than allowed.
    """
    _, options = parse_options_header(content_type)
    if b"boundary" not in options:
        raise _unreadable("Missing boundary in multipart.")
    files = _Files(_codec_name(options.get(b"charset", b"utf-8")), max_files)
    try:
        parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": files.begin_part,
                "on_header_field": files.add_to_header_name,
                "on_header_value": files.add_to_header_value,
                "on_header_end": files.end_header,
                "on_headers_finished": files.check_headers,
                "on_part_data": files.add_to_file,
                "on_part_end": files.end_part,
                "on_end": files.end_body,
            },
        )
        async for piece in body:
            parser.write(piece)
    except FormParserError:
        raise _unreadable("Invalid multipart data.") from None
    if not files.are_complete:
        raise _unreadable("it ends before its closing boundary")
    return files.images


class _Files:
    """Files that the parser has found so far. It calls the methods, for each part in this order.

    Args:
        charset: of the names of parts and files.
        max_files: the most files that the body may hold.
    """

    def __init__(self, charset: str, max_files: int) -> None:
        self.images: list[EncodedImage] = []
        self.are_complete = False
        self._charset, self._max_files = charset, max_files
        self._header_name = self._header_value = b""
        self._disposition: bytes | None = None
        self._pieces: list[Bytes] = []  # of the file that is arriving

    def begin_part(self) -> None:
        self._disposition, self._pieces = None, []

    def add_to_header_name(self, piece: bytes, start: int, end: int) -> None:
        self._header_name += piece[start:end]

    def add_to_header_value(self, piece: bytes, start: int, end: int) -> None:
        self._header_value += piece[start:end]

    def end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def check_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise _unreadable('The Content-Disposition header field "name" must be provided.')
        self._check_charset(options[b"name"])
        if b"filename" not in options:
            raise MalformedRequest("every part must be a file: curl -F image=@photo.jpg (mind the @)")
        if len(self.images) == self._max_files:
            raise TooManyImages(
                f"the body holds more than {self._max_files} images, the limit (max_images_per_request)"
            )
        self._check_charset(options[b"filename"])

    def _check_charset(self, name: bytes) -> None:
        """Refuses a charset whose codec fails in a way of its own, as idna does; bytes outside of it are no fault."""
        try:
            name.decode(self._charset)
        except (UnicodeDecodeError, LookupError):
            return
        except UnicodeError as error:
            raise _unreadable(str(error)) from None

    def add_to_file(self, piece: bytes, start: int, end: int) -> None:
        add_piece(self._pieces, memoryview(piece)[start:end])

    def end_part(self) -> None:
        self.images.append(EncodedImage(*self._pieces))

    def end_body(self) -> None:
        self.are_complete = True


def _unreadable(why: str) -> MalformedRequest:
    return MalformedRequest(f"the multipart body cannot be read: {why}")


def _codec_name(charset: bytes) -> str:
    try:
        return codecs.lookup(charset.decode("latin-1")).name
    except LookupError:
        return _FALLBACK_CHARSET
