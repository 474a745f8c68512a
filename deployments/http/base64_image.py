"""Decodes an image that is sent as base64, with or without line breaks, or as a data: URL (RFC 2397)."""

import binascii
import json
import re
from typing import Final

from deployments.http.pieces import add_piece
from deployments.request_errors import MalformedEncoding
from pipeline.records import Bytes, EncodedImage, Rejection

_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_FROM_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")
_WHITESPACE: Final = b" \t\r\n\f\v"
_SPACE_INSIDE: Final = re.compile(rb"[^ \t\r\n\f\v] +[^ \t\r\n\f\v]")
_DATA_URL_PREFIX: Final = b"data:"
_MAX_HEAD_BYTES: Final = 1000
"""Limit on the bytes before the comma of a data: URL."""

_HOW_TO_SEND: Final = "send the bytes of the image as base64 (base64 -w0 photo.jpg), no URL and no file name"


class Base64Image:
    """Decodes one image while its text arrives. An error is kept until the end, and rejects this image alone."""

    def __init__(self) -> None:
        self._pieces: list[Bytes] = []
        self._error: MalformedEncoding | None = None
        self._head: bytes | None = b""  # text so far, while it may be the head of a data: URL
        self._is_url, self._is_base64 = False, True
        self._percent = b""  # a percent escape that has arrived in part
        self._last = b""  # the last character, and a space where spaces follow it
        self._quantum = b""  # fewer than four base64 characters, waiting for more
        self._padding = 0

    def write(self, text: bytes) -> None:
        """Take the next part of the text."""
        if self._error:
            return
        try:
            if self._head is not None:
                text = self._after_head(self._head + text)
            self._decode(text)
        except MalformedEncoding as error:
            self._fail(error)

    def finish(self) -> EncodedImage | Rejection:
        """Return the image, or its rejection with the reason."""
        if not self._error:
            try:
                self._end()
            except MalformedEncoding as error:
                self._fail(error)
        return Rejection(self._error) if self._error else EncodedImage(*self._pieces)

    def discard(self) -> None:
        """Free what has been decoded."""
        self._pieces.clear()

    def _fail(self, error: MalformedEncoding) -> None:
        self._error = MalformedEncoding(str(error))  # without the frames of its traceback
        self._pieces.clear()

    def _after_head(self, text: bytes) -> bytes:
        """Return the text behind the head of a data: URL, or all text if there is none; empty until this is known."""
        text = text.lstrip(_WHITESPACE)
        if len(text) < len(_DATA_URL_PREFIX) and _DATA_URL_PREFIX.startswith(text.lower()):
            self._head = text
            return b""
        self._is_url = text[: len(_DATA_URL_PREFIX)].lower() == _DATA_URL_PREFIX
        if not self._is_url:
            self._head = None
            return text
        head, comma, rest = text[: _MAX_HEAD_BYTES + 1].partition(b",")
        if not comma:
            if len(text) > _MAX_HEAD_BYTES:
                raise _no_comma(head)
            self._head = text
            return b""
        self._head = None
        parameters = head[len(_DATA_URL_PREFIX) :].lower().split(b";")[1:]
        self._is_base64 = b"base64" in [parameter.strip() for parameter in parameters]
        return rest + text[_MAX_HEAD_BYTES + 1 :]

    def _decode(self, text: bytes) -> None:
        if self._is_url:
            text = self._unescaped(text)
        if self._is_base64:
            self._decode_base64(text)
        else:
            add_piece(self._pieces, text)

    def _unescaped(self, text: bytes) -> bytes:
        """Decode percent escapes such as %2B."""
        text = self._percent + text
        cut = text.rfind(b"%", -2) if b"%" in text[-2:] else len(text)
        text, self._percent = text[:cut], text[cut:]
        if b"%" not in text:
            return text
        # Converted to JSON escapes, as json's parser is written in C: a body may be full of escapes.
        literal = text.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"%", b"\\u00")
        try:
            return str(json.loads(b'"%b"' % literal, strict=False)).encode("latin-1")
        except ValueError:
            raise MalformedEncoding(
                "the data: URL of the image holds a % that no two hexadecimal digits follow"
            ) from None

    def _decode_base64(self, text: bytes) -> None:
        if self._decode_plain(text):
            return
        line, text = text, text.translate(_FROM_URL_SAFE, _WHITESPACE)
        if foreign := text.translate(None, _ALPHABET):
            text = self._without_padding(text, foreign)
        elif self._padding and text:
            raise MalformedEncoding("the image is not base64: more follows the = at its end")
        self._check_spaces(line)
        text = self._quantum + text
        whole = len(text) // 4 * 4
        self._quantum = text[whole:]
        add_piece(self._pieces, binascii.a2b_base64(text[:whole]))

    def _decode_plain(self, text: bytes) -> bool:
        """Decode text of the standard alphabet, the usual case, in a third of the time; False for any other."""
        if self._padding or self._last.endswith(b" ") or b"=" in text:
            return False
        whole = (len(self._quantum) + len(text)) // 4 * 4
        joined = self._quantum + text
        try:
            decoded = binascii.a2b_base64(joined[:whole], strict_mode=True)
        except binascii.Error:
            return False
        rest = joined[whole:]
        if rest.translate(None, _ALPHABET):
            return False
        add_piece(self._pieces, decoded)
        self._quantum, self._last = rest, text[-1:] or self._last
        return True

    def _check_spaces(self, text: bytes) -> None:
        """Refuse a space between two characters of a line: skipping the space would damage the image."""
        if b" " in text or self._last.endswith(b" "):
            joined = self._last + text
            if _SPACE_INSIDE.search(joined):
                raise MalformedEncoding(
                    "the image is not base64: there are spaces inside it, which were plus signs (+) before a form or a "
                    "URL was decoded; send + as %2B there, or JSON, or base64 with - and _ (RFC 4648, section 5)"
                )
            seen = joined.rstrip(b" ")
            self._last = seen[-1:] + b" " * (len(seen) < len(joined))
        else:
            self._last = text[-1:] or self._last

    def _without_padding(self, text: bytes, foreign: bytes) -> bytes:
        if strange := foreign.replace(b"=", b""):
            raise MalformedEncoding(f"the image is not base64: it holds {_named(strange[0])}; {_HOW_TO_SEND}")
        before, _, after = text.partition(b"=")
        if after.strip(b"=") or (self._padding and before):
            raise MalformedEncoding("the image is not base64: more follows the = at its end")
        self._padding += 1 + len(after)
        return before

    def _end(self) -> None:
        if self._head:
            if self._head[:1].lower() == b"d" and len(self._head) >= len(_DATA_URL_PREFIX):
                raise _no_comma(self._head)
            self._decode(self._head)
        if self._percent:
            raise MalformedEncoding("the data: URL of the image ends behind a %")
        if self._padding > 2 or len(self._quantum) == 1:
            raise MalformedEncoding("the image is not base64: it has been cut off, or its = at the end are wrong")
        if self._quantum:
            add_piece(self._pieces, binascii.a2b_base64(self._quantum + b"=="))


def _no_comma(head: bytes) -> MalformedEncoding:
    shown = head[:40].decode("ascii", "replace")
    return MalformedEncoding(
        f"the data: URL of the image has no comma ({shown}...); write data:image/jpeg;base64,<base64>"
    )


def _named(character: int) -> str:
    if character > 126:
        return "a character outside ASCII"
    return repr(chr(character)) + (", as if it were percent-encoded" if chr(character) == "%" else "")
