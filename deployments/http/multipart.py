"""Reads the images in a multipart/form-data body (RFC 7578) while it arrives.

The parser is python-multipart's, as in Starlette's `request.form()`, which copies each file three more times, through
temporary files.
"""

import logging
from typing import Final

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from deployments.http.form_part import FormPart
from deployments.request_errors import MalformedRequest, TooManyImages
from pipeline.records import EncodedImage, Rejection

_MAX_PREAMBLE_BYTES: Final = 64 << 10
_MAX_PADDING_BYTES: Final = 80
"""Limit on the spaces behind a boundary, with the end of its line."""

_MAX_FIELDS: Final = 256
_MAX_NEAR_BOUNDARIES: Final = 256
_UNCOUNTED_BYTES: Final = 1 << 20
"""First bytes, in which lines like a boundary are not counted: most bodies end there, and at most 0.2 s is lost."""

_NAMED_FIELDS: Final = 5

_HOW_TO_SEND: Final = "curl -F image=@photo.jpg (mind the @)"

logging.getLogger("python_multipart").setLevel(logging.ERROR)  # a bad body is reported to the client, not in the log


class MultipartImages:
    """Reads one body.

    Args:
        content_type: Content-Type of the request, which names the boundary.
        max_images: the most that the body may hold.

    Attributes:
        fields: texts of the text fields by name, in order.

    Raises:
        MalformedRequest: the content type names no boundary.
    """

    def __init__(self, content_type: str, max_images: int) -> None:
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if not boundary:
            raise MalformedRequest(
                "Content-Type: multipart/form-data names no boundary, as where it was set by hand; do not set it: the "
                "client that makes the form does, and adds its boundary"
            )
        self._images: list[EncodedImage | Rejection] = []
        self._max_images = max_images
        self.fields: dict[str, list[str]] = {}
        self._field_count = 0
        self._part = FormPart()
        self._header_name = self._header_value = b""
        self._is_complete = False
        self._delimiter = b"--" + boundary
        self._preamble: bytes | None = b"\n"  # its last bytes, until a part begins; the body begins a line
        self._preamble_bytes = self._read_bytes = 0
        self._boundaries = 0  # lines that begin with the boundary so far
        try:
            self._parser = MultipartParser(boundary)
        except FormParserError as error:
            raise _unreadable(str(error)) from None

    def write(self, piece: bytes) -> None:
        """Take the next piece of the body.

        Raises:
            MalformedRequest: the body is not multipart/form-data.
            TooManyImages: the body holds more images than allowed.
        """
        if self._preamble is not None:
            piece = self._after_preamble(self._preamble, piece)
        # Callbacks of the parser, set only during this call: they would be a reference cycle.
        self._parser.callbacks = {
            "on_part_begin": self._begin_part,
            "on_header_field": self._add_to_header_name,
            "on_header_value": self._add_to_header_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._check_limit,
            "on_part_data": self._add_to_part,
            "on_part_end": self._end_part,
            "on_end": self._end_body,
        }
        try:
            self._parser.write(piece)
        except FormParserError:
            raise _unreadable("a part of it begins or ends in a way that no form does") from None
        finally:
            self._parser.callbacks = {}
        # The parser reads lines that look like a boundary byte by byte: 128 MB of them would take 15 s.
        self._read_bytes += len(piece)
        if self._read_bytes > _UNCOUNTED_BYTES:
            self._boundaries += piece.count(b"\n" + self._delimiter)
        if self._boundaries > self._max_images + _MAX_FIELDS + _MAX_NEAR_BOUNDARIES:
            raise _unreadable("too many lines of it begin with its boundary and go on otherwise (RFC 2046)")

    def finish(self) -> list[EncodedImage | Rejection]:
        """Return the images, in order.

        Raises:
            MalformedRequest: the body is cut off, or is a form without a file.
        """
        if self._preamble is not None:
            raise self._no_boundary()
        if not self._is_complete:
            raise _unreadable("it ends before its closing boundary")
        if self.fields and not self._images:
            names = ", ".join([*self.fields][:_NAMED_FIELDS])
            raise MalformedRequest(f"the form holds no file, only text ({names}); send {_HOW_TO_SEND}")
        return self._images

    def discard(self) -> None:
        """Free the memory of the images."""
        self._images.clear()
        self._part.discard()

    def _after_preamble(self, before: bytes, piece: bytes) -> bytes:
        """Return the bytes behind the preamble (RFC 2046, section 5.1.1); empty until its end has arrived."""
        if before == b"\n" and piece.startswith(self._delimiter + b"\r\n"):  # the usual start of a body: no copy
            self._preamble = None
            return piece
        text, line = before + piece, b"\n" + self._delimiter
        self._preamble = text[-len(line) :]
        at = text.find(line)
        while at >= 0:
            behind = text[at + len(line) : at + len(line) + _MAX_PADDING_BYTES]
            padding = len(behind) - len(behind.lstrip(b" \t"))  # the parser skips padding only behind later boundaries
            if behind.startswith(b"--") or behind[padding:].startswith(b"\r\n"):
                self._preamble = None
                return self._delimiter + text[at + len(line) + padding :]
            if behind[padding:] in (b"", b"\r", b"-") and len(behind) < _MAX_PADDING_BYTES:
                self._preamble = text[at:]
                break
            at = text.find(line, at + 1)
        self._preamble_bytes += len(piece)
        if self._preamble_bytes > _MAX_PREAMBLE_BYTES:
            raise self._no_boundary()
        return b""

    def _no_boundary(self) -> MalformedRequest:
        shown = self._delimiter[:100].decode("utf-8", "replace")
        return _unreadable(f"no line begins with {shown}, by the boundary that Content-Type names")

    # ---- called by the parser, for each part in this order ----------------------------------------------------------

    def _begin_part(self) -> None:
        self._part = FormPart()

    def _add_to_header_name(self, piece: bytes, start: int, end: int) -> None:
        self._header_name += piece[start:end]

    def _add_to_header_value(self, piece: bytes, start: int, end: int) -> None:
        self._header_value += piece[start:end]

    def _end_header(self) -> None:
        self._part.add_header(self._header_name, self._header_value)
        self._header_name = self._header_value = b""

    def _check_limit(self) -> None:
        self._part.end_headers()
        if self._part.is_image:
            self._check_images()

    def _add_to_part(self, piece: bytes, start: int, end: int) -> None:
        self._part.write(memoryview(piece)[start:end])

    def _end_part(self) -> None:
        if image := self._part.finish():
            self._check_images()
            self._images.append(image)
        elif not self._part.is_unchosen_file:
            self.fields.setdefault(self._part.name, []).append(self._part.text)
            self._field_count += 1
            if self._field_count > _MAX_FIELDS:
                raise MalformedRequest(f"the form holds more than {_MAX_FIELDS} text fields, the limit")

    def _check_images(self) -> None:
        if len(self._images) == self._max_images:
            raise TooManyImages(
                f"the body holds more than {self._max_images} images, the limit (max_images_per_request)"
            )

    def _end_body(self) -> None:
        self._is_complete = True


def _unreadable(why: str) -> MalformedRequest:
    return MalformedRequest(f"the multipart body cannot be read: {why}")
