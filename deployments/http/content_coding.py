"""Decodes the Content-Encoding of a body (RFC 9110, section 8.4) while it arrives: gzip and deflate.

A body that expands a thousandfold costs its sender nothing. So it is decoded in small pieces, each of which is counted
before the next one is made, and only up to an expansion that no legitimate body has.
"""

import zlib
from collections.abc import Iterator
from typing import Final

from deployments.request_errors import MalformedRequest, RequestTooLarge, UnsupportedContentEncoding

ACCEPTED_CODINGS: Final = "gzip, deflate, identity"
"""Value of the header Accept-Encoding in a refusal (RFC 9110, section 15.5.16)."""

PIECE_BYTES: Final = 64 << 10
"""Limit on the decoded bytes in one piece."""

MAX_EXPANSION_RATIO: Final = 100
"""Limit on expansion. Images as base64 in JSON only shrink by a quarter, unless one image is repeated."""

_ALWAYS_ALLOWED_BYTES: Final = 4 << 20
"""Decoded bytes up to which the expansion is not limited."""

_MAX_GZIP_MEMBERS: Final = 10_000
"""Limit on streams in one gzip body; `bgzip` begins a new one every 64 KiB."""

_DECODED_AT_ONCE_BYTES: Final = 16 << 10

_GZIP_WBITS: Final = 16 + zlib.MAX_WBITS
_GZIP_FIRST_BYTE: Final = b"\x1f"
_ZLIB_DEFLATE_METHOD: Final = 8  # the compression method "deflate", RFC 1950


def decoder_for(content_encoding: str) -> "Decoder | None":
    """Make the decoder for a body; None if the body is not encoded.

    Args:
        content_encoding: value of the header, several headers joined by commas; may be empty.

    Raises:
        UnsupportedContentEncoding: the header names another coding, or several.
    """
    codings = [coding.strip().lower() for coding in content_encoding.split(",")]
    codings = [coding for coding in codings if coding not in ("", "identity")]
    if not codings:
        return None
    if len(codings) > 1 or codings[0] not in ("gzip", "x-gzip", "deflate"):
        raise UnsupportedContentEncoding(
            f"unsupported Content-Encoding: {content_encoding[:100]}; send the body as it is, or in one of "
            f"{ACCEPTED_CODINGS}"
        )
    return Decoder(codings[0])


class Decoder:
    """Decodes one body.

    Args:
        coding: gzip, x-gzip or deflate; deflate in zlib's format, or raw as many clients send it.
    """

    def __init__(self, coding: str) -> None:
        self._name = coding
        self._is_gzip = coding != "deflate"
        self._stream = zlib.decompressobj(_GZIP_WBITS)
        self._head: bytes | None = (
            None if self._is_gzip else b""
        )  # first bytes of a deflate body, until its format is known
        self._members = 1
        self._taken_bytes = self._made_bytes = 0
        self._is_padding = False  # zeros behind the last stream, as tapes have them

    def decode(self, piece: bytes) -> Iterator[bytes]:
        """Yield the decoded bytes of a piece of the body, in pieces of at most `PIECE_BYTES`.

        Raises:
            MalformedRequest: the body is not in this coding.
            RequestTooLarge: the body expands more than the limit.
        """
        self._taken_bytes += len(piece)
        piece = self._with_format_known(piece)
        for start in range(0, len(piece), _DECODED_AT_ONCE_BYTES):  # small steps: zlib copies the unused rest each time
            yield from self._decode_step(piece[start : start + _DECODED_AT_ONCE_BYTES])

    def _decode_step(self, rest: bytes) -> Iterator[bytes]:
        has_more = False  # zlib may hold decoded bytes back after it has taken the whole piece
        while rest or has_more:
            if self._is_padding or self._stream.eof:
                rest, has_more = self._next_member(rest), False
                continue
            made = self._decompress(rest)
            rest, has_more = self._stream.unconsumed_tail or self._stream.unused_data, len(made) == PIECE_BYTES
            if made:
                self._check_expansion(len(made))
                yield made

    def finish(self) -> None:
        """Check the end of the body.

        Raises:
            MalformedRequest: the body is cut off.
        """
        if self._taken_bytes and not (self._stream.eof or self._is_padding):
            raise MalformedRequest(f"the body ends before its {self._name} data do (Content-Encoding: {self._name})")

    def _with_format_known(self, piece: bytes) -> bytes:
        if self._head is None:
            return piece
        self._head += piece
        if len(self._head) < 2:
            return b""
        head, self._head = self._head, None
        is_zlib = head[0] & 15 == _ZLIB_DEFLATE_METHOD and int.from_bytes(head[:2]) % 31 == 0
        self._stream = zlib.decompressobj(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)
        return head

    def _decompress(self, piece: bytes) -> bytes:
        try:
            return self._stream.decompress(piece, PIECE_BYTES)
        except zlib.error:
            raise MalformedRequest(
                f"the body is not {self._name} data, or damaged (Content-Encoding: {self._name}); a body that is not "
                "compressed is sent without this header"
            ) from None

    def _next_member(self, rest: bytes) -> bytes:
        if not rest:
            return rest
        if not self._is_gzip or self._is_padding or rest[:1] != _GZIP_FIRST_BYTE:
            if rest.strip(b"\0") or not self._is_gzip:
                raise MalformedRequest(f"bytes follow the {self._name} data (Content-Encoding: {self._name})")
            self._is_padding = True
            return b""
        self._members += 1
        if self._members > _MAX_GZIP_MEMBERS:
            raise MalformedRequest(f"the gzip body consists of more than {_MAX_GZIP_MEMBERS} streams, the limit")
        self._stream = zlib.decompressobj(_GZIP_WBITS)
        return rest

    def _check_expansion(self, size: int) -> None:
        self._made_bytes += size
        if self._made_bytes > _ALWAYS_ALLOWED_BYTES and self._made_bytes > MAX_EXPANSION_RATIO * self._taken_bytes:
            raise RequestTooLarge(
                f"the {self._name} body expands more than {MAX_EXPANSION_RATIO} times, the limit; send it as it is"
            )
