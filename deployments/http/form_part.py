"""One part of a form: an image, or a text field.

Clients differ in how they mark a file. Browsers, curl and most libraries give it a name. .NET's ByteArrayContent,
reqwest's Part::bytes and `curl -F 'image=<photo.jpg'` give it neither name nor type; Spring's ByteArrayResource and
Node's form-data give a Buffer the type application/octet-stream alone. So a part is an image if it has the name or the
type of a file, or else if its bytes are binary.
"""

import re
from collections.abc import Sequence
from typing import Final

from python_multipart.multipart import parse_options_header

from deployments.http.base64_image import Base64Image
from deployments.http.pieces import add_piece
from deployments.request_errors import MalformedEncoding
from pipeline.records import Bytes, EncodedImage, Rejection

_QUOTED_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"')
_FILE_NAME: Final = re.compile(rb";\s*filename\*?\s*=([^;]*)", re.IGNORECASE)
_FILE_TYPES: Final = (b"image/", b"application/octet-stream", b"binary/octet-stream")
_IDENTITY_ENCODINGS: Final = (b"", b"binary", b"8bit", b"7bit")

_SNIFFED_BYTES: Final = 512
_NOT_IN_TEXT: Final = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
"""The "binary data bytes" by which browsers tell files from text (mimesniff.spec.whatwg.org, section 3)."""


class FormPart:
    """Receives one part: its headers, then its bytes.

    Attributes:
        is_image: whether the part is an image; None until its bytes show it.
    """

    def __init__(self) -> None:
        self.is_image: bool | None = None
        self._disposition = self._type = self._encoding = b""
        self._file_name: bytes | None = None
        self._pieces: list[Bytes] = []
        self._base64: Base64Image | None = None
        self._size = 0

    def add_header(self, name: bytes, value: bytes) -> None:
        """Store one header."""
        match name.lower():
            case b"content-disposition":
                self._disposition = value
            case b"content-type":
                self._type = value.strip().lower()
            case b"content-transfer-encoding":
                self._encoding = value.strip().lower()

    def end_headers(self) -> None:
        """Decide by the headers how to treat the bytes that follow."""
        # python-multipart drops filename*; some clients send only this parameter for a name outside ASCII.
        if found := _FILE_NAME.search(_QUOTED_STRING.sub(_without_content, self._disposition)):
            self._file_name = found[1].strip().strip(b'"')
        if self._file_name or self._type.startswith(_FILE_TYPES):
            self.is_image = True
        if self._encoding == b"base64":
            self._base64 = Base64Image()

    def write(self, piece: memoryview) -> None:
        """Take the next bytes; keep them if the part is, or may be, an image."""
        self._size += len(piece)
        if self._base64:
            self._base64.write(bytes(piece))
        elif self.is_image is not False:
            add_piece(self._pieces, piece)
            if self.is_image is None and self._size >= _SNIFFED_BYTES:
                self.is_image = _is_binary(self._pieces)

    def finish(self) -> EncodedImage | Rejection | None:
        """Return the image; None for a text field, or for a file field left empty in a browser."""
        if not self._size and not self._file_name:
            return None
        image = self._base64.finish() if self._base64 else EncodedImage(*self._pieces)
        if self.is_image is None:
            self.is_image = isinstance(image, EncodedImage) and _is_binary(image.pieces)
        if not self.is_image:
            return None
        if self._base64 or self._encoding in _IDENTITY_ENCODINGS:
            return image
        encoding = self._encoding[:40].decode("ascii", "replace")
        return Rejection(
            MalformedEncoding(f"unsupported Content-Transfer-Encoding: {encoding}; send the image's bytes as they are")
        )

    @property
    def text(self) -> str:
        """Text of the field, if the part is no image; the first bytes of a long one."""
        return b"".join(self._pieces)[:_SNIFFED_BYTES].decode("utf-8", "replace")

    @property
    def name(self) -> str:
        """Name of the field, cut to 40 characters."""
        _, options = parse_options_header(self._disposition)
        return options.get(b"name", b"without a name")[:40].decode("utf-8", "replace")

    @property
    def is_unchosen_file(self) -> bool:
        """True if the part is a file field left empty in a browser."""
        return self._file_name == b"" and not self._size

    def discard(self) -> None:
        """Free the memory of the image."""
        self._pieces.clear()
        if self._base64:
            self._base64.discard()


def _without_content(quoted: re.Match[bytes]) -> bytes:
    """Replace the content of a quoted value, which may hold semicolons."""
    return b'"x"' if len(quoted[0]) > 2 else b""


def _is_binary(pieces: Sequence[Bytes]) -> bool:
    start = b""
    for piece in pieces:
        start += piece[: _SNIFFED_BYTES - len(start)]
        if len(start) == _SNIFFED_BYTES:
            break
    return bool(_NOT_IN_TEXT.search(start))
