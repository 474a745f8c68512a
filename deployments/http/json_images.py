"""Reads {"images": ["<base64>", ...]} while it arrives, and stops at the first byte that does not fit this form.

A general JSON parser builds objects for the whole body before the body can be refused: 120 MB of `{}` became 3 GB, and
the interpreter was blocked for seconds. Here the first image that is no string ends the reading. Strings are decoded
piece by piece, so a large one does not block other requests either.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from deployments.http.base64_image import Base64Image
from deployments.request_errors import MalformedRequest, TooManyImages
from pipeline.records import EncodedImage, Rejection

EXPECTED_FORM: Final = '{"images": ["<base64>", ...]}'

_PARSED_AT_ONCE_BYTES: Final = 64 << 10
_MAX_KEY_BYTES: Final = 256

_JSON_SPACES: Final = re.compile(rb"[ \t\r\n]*")
_JSON_STRING: Final = re.compile(rb'(?:[^"\\]++|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*+')
"""Rest of a string up to its closing quote, or up to an escape that is invalid or incomplete so far."""

_MAX_ESCAPE_BYTES: Final = len(rb"\u0041")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_MARK_BYTES: Final = 4
"""Number of first bytes that show whether a body is UTF-16 or UTF-32."""

_VALUE_KINDS: Final = {
    "an object": (b"{",),
    "a list": (b"[",),
    "a string": (b'"',),
    "a number": tuple(b"%c" % digit for digit in b"-0123456789"),
    "true or false": (b"true", b"false"),
    "null": (b"null",),
}

_Step = Callable[["JsonImages", bytes, int], int]
"""Parser step: takes data and a position, returns the new position; the same one if more data is needed."""


class JsonImages:
    """Reads one body.

    Args:
        max_images: limit on the images in the body.
        parameters: names that belong into the URL, for messages.
    """

    fields: Mapping[str, Sequence[str]] = MappingProxyType({})

    def __init__(self, max_images: int, parameters: Collection[str] = ()) -> None:
        self._images = list[EncodedImage | Rejection]()
        self._max_images, self._parameters = max_images, parameters
        self._image = Base64Image()  # the image that is arriving
        self._seen_images = False
        self._rest = b""  # bytes that the step could not use yet
        self._read_bytes = 0
        self._step: _Step = JsonImages._begin  # not a bound method, which would be a reference cycle

    def write(self, piece: bytes) -> None:
        """Take the next piece of the body.

        Raises:
            MalformedRequest: the body has another form.
            TooManyImages: the body holds more images than allowed.
        """
        self._read_bytes += len(piece)
        for start in range(0, len(piece), _PARSED_AT_ONCE_BYTES):
            self._advance(self._rest + piece[start : start + _PARSED_AT_ONCE_BYTES])

    def finish(self) -> list[EncodedImage | Rejection]:
        """Return the images, in order; an image whose text is not base64 is a rejection.

        Raises:
            MalformedRequest: the body is cut off.
        """
        if self._step is JsonImages._begin:
            self._step = JsonImages._object
            self._advance(self._rest)
        if self._step is not JsonImages._end:
            raise MalformedRequest(f"the body is not JSON: it ends after {self._read_bytes} bytes, in the middle")
        return self._images

    def discard(self) -> None:
        """Free the memory of the images."""
        self._images.clear()
        self._image.discard()

    def _advance(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            before, step = at, self._step
            at = step(self, data, at)
            if at == before and step is self._step:
                break
        self._rest = data[at:]

    def _begin(self, data: bytes, at: int) -> int:
        if len(data) < _MARK_BYTES:
            return at
        if data.startswith(_BYTE_ORDER_MARK):
            at = len(_BYTE_ORDER_MARK)
        elif data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:4]:
            raise MalformedRequest("the body is JSON in UTF-16 or UTF-32; send it as UTF-8")
        self._step = JsonImages._object
        return at

    def _object(self, data: bytes, at: int) -> int:
        return self._token(data, at, {b"{": JsonImages._first_key}, "the body")

    def _first_key(self, data: bytes, at: int) -> int:
        at = _after_spaces(data, at)
        if data[at : at + 1] == b"}":
            raise MalformedRequest(f"the body is an empty object; send {EXPECTED_FORM}")
        return self._token(data, at, {b'"': JsonImages._key}, "a key in double quotes")

    def _next_key(self, data: bytes, at: int) -> int:
        return self._token(data, at, {b'"': JsonImages._key}, "a key in double quotes")

    def _key(self, data: bytes, at: int) -> int:
        end = self._end_of_string(data, at)
        if data[end : end + 1] != b'"' and len(data) - at <= _MAX_KEY_BYTES:
            return at
        key = json.loads('"' + data[at:end].decode("utf-8", "replace") + '"', strict=False)
        if key != "images":
            raise _foreign_key(key[:40], self._parameters)
        if self._seen_images:
            raise MalformedRequest(f'the body has the key "images" twice; send {EXPECTED_FORM}')
        self._seen_images, self._step = True, JsonImages._colon
        return end + 1

    def _colon(self, data: bytes, at: int) -> int:
        return self._token(data, at, {b":": JsonImages._list}, "a colon")

    def _list(self, data: bytes, at: int) -> int:
        return self._token(data, at, {b"[": JsonImages._first_image}, '"images"')

    def _first_image(self, data: bytes, at: int) -> int:
        return self._token(data, at, {b'"': JsonImages._text, b"]": JsonImages._after_list}, "image 0")

    def _next_image(self, data: bytes, at: int) -> int:
        return self._token(data, at, {b'"': JsonImages._text}, f"image {len(self._images)}")

    def _text(self, data: bytes, at: int) -> int:
        if len(self._images) == self._max_images:
            raise TooManyImages(
                f"the body holds more than {self._max_images} images, the limit (max_images_per_request)"
            )
        end = self._end_of_string(data, at)
        self._image.write(_unescaped(data[at:end]))
        if data[end : end + 1] != b'"':
            return end
        self._images.append(self._image.finish())
        self._image, self._step = Base64Image(), JsonImages._after_image
        return end + 1

    def _after_image(self, data: bytes, at: int) -> int:
        return self._token(data, at, {b",": JsonImages._next_image, b"]": JsonImages._after_list}, "a comma or ]")

    def _after_list(self, data: bytes, at: int) -> int:
        return self._token(data, at, {b",": JsonImages._next_key, b"}": JsonImages._end}, "a comma or }")

    def _end(self, data: bytes, at: int) -> int:
        at = _after_spaces(data, at)
        if at < len(data):
            raise MalformedRequest(
                f"the body is not JSON: more follows its end, {_shown(data[at:])}; send {EXPECTED_FORM}"
            )
        return at

    def _token(self, data: bytes, at: int, steps: dict[bytes, _Step], name: str) -> int:
        """Skip spaces and take one of these characters, which selects the next step."""
        at = _after_spaces(data, at)
        found = data[at : at + 1]
        if not found:
            return at
        if found not in steps:
            raise _unexpected(data[at:], name)
        self._step = steps[found]
        return at + 1

    def _end_of_string(self, data: bytes, at: int) -> int:
        """Find the closing quote of a string, or the end of its complete characters so far."""
        quote = data.find(b'"', at)
        end = quote if quote >= 0 else len(data)
        if data.find(b"\\", at, end) >= 0:
            found = _JSON_STRING.match(data, at)
            end = found.end() if found else at
            if data[end : end + 1] == b"\\" and len(data) - end >= _MAX_ESCAPE_BYTES:
                raise MalformedRequest(f"the body is not JSON: a string holds {_shown(data[end : end + 2])}, no escape")
        return end


def _after_spaces(data: bytes, at: int) -> int:
    found = _JSON_SPACES.match(data, at)
    return found.end() if found else at


def _unescaped(text: bytes) -> bytes:
    if any(character in text for character in (b"\n", b"\r", b"\t")):
        raise MalformedRequest(
            "the body is not JSON: a line break or tab stands inside a string; base64 -w0 makes no line breaks"
        )
    if b"\\" not in text:
        return text
    return str(json.loads('"' + text.decode("latin-1") + '"', strict=False)).encode("utf-8", "surrogatepass")


def _unexpected(data: bytes, name: str) -> MalformedRequest:
    kind = next((kind for kind, begins in _VALUE_KINDS.items() if data.startswith(begins)), None)
    if kind is None or name.startswith("a "):
        return MalformedRequest(
            f"the body is not JSON: {_shown(data)} stands where {name} should; send {EXPECTED_FORM}"
        )
    return MalformedRequest(f"{name} is {kind}; the body must be {EXPECTED_FORM} and nothing else")


def _foreign_key(key: str, parameters: Collection[str]) -> MalformedRequest:
    hint = f"; {key} stands in the URL: /predict?{key}=..." if key in parameters else ""
    return MalformedRequest(f'the body has the key "{key}"; it must be {EXPECTED_FORM} and nothing else{hint}')


def _shown(data: bytes) -> str:
    return repr(data[:20].decode("utf-8", "replace"))
