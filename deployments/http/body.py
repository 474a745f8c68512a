"""Reads the body of an HTTP request within limits on bytes, memory and time, and splits it into encoded images."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol

from starlette.requests import Request

from deployments.http.content_coding import decoder_for
from deployments.http.json_images import EXPECTED_FORM, JsonImages
from deployments.http.multipart import MultipartImages
from deployments.http.pieces import add_piece
from deployments.live_config import LiveConfig
from deployments.memory_budget import Hold
from deployments.request_errors import (
    BodyTimeout,
    DeadlineExceeded,
    EmptyRequest,
    RequestTooLarge,
    UnsupportedContentType,
)
from deployments.service import Deadline
from pipeline.errors import ImageTooLarge
from pipeline.records import Bytes, EncodedImage, Rejection

OCTET_STREAM: Final = "application/octet-stream"
RAW_CONTENT_TYPES: Final = (OCTET_STREAM, "binary/octet-stream", "")
"""Content types of a body that is one image, beside image/*; empty: the request has no Content-Type."""

MULTIPART_CONTENT_TYPE: Final = "multipart/form-data"
JSON_CONTENT_TYPE: Final = "application/json"
URLENCODED_CONTENT_TYPE: Final = "application/x-www-form-urlencoded"

BODY_GRACE_S: Final = 5.0
"""Seconds at the start of a body without a minimum rate: mobile connections pause. Kestrel has the same value."""

_DECODED_PER_TURN_BYTES: Final = 1 << 20
"""Bytes of a compressed body that are decoded before the event loop runs other tasks: some milliseconds."""

_MAX_LENGTH_DIGITS: Final = 18

_HOW_TO_SEND_ONE: Final = "curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg'"
_HOW_TO_SEND: Final = (
    f"send one image as image/* or {OCTET_STREAM} ({_HOW_TO_SEND_ONE}), "
    f"many as {MULTIPART_CONTENT_TYPE} (curl -F image=@one.jpg -F image=@two.jpg) or "
    f"{JSON_CONTENT_TYPE} ({EXPECTED_FORM})"
)
_MAX_SHOWN_CHARACTERS: Final = 100


@dataclass(frozen=True, slots=True)
class SentImages:
    """The images of a request."""

    images: Sequence[EncodedImage | Rejection]  # in the client's order; a rejection if an image has no valid bytes
    many: bool  # whether to answer with a list: the shape follows the content type, not the number
    fields: Mapping[str, Sequence[str]]  # texts of the text fields of a form, by name


class BodyReader(Protocol):
    """Receives a body in pieces and finds its images."""

    @property
    def fields(self) -> Mapping[str, Sequence[str]]:
        """Texts of the text fields of a form, by name."""

    def write(self, piece: bytes) -> None:
        """Take the next piece."""

    def finish(self) -> Sequence[EncodedImage | Rejection]:
        """Return the images, in order."""

    def discard(self) -> None:
        """Free the memory of the images: the traceback of an error keeps this object alive."""


@dataclass(frozen=True, slots=True)
class BodyLimit:
    """Limit on the bytes of a body, and the error for a larger body."""

    bytes: int
    key: str
    what: str
    error: type[RequestTooLarge | ImageTooLarge]

    @classmethod
    def of_image(cls, live: LiveConfig) -> "BodyLimit":
        """Return the limit on a body that is one image."""
        return cls(live.max_image_bytes, "max_image_bytes", "image", ImageTooLarge)

    @classmethod
    def of_request(cls, live: LiveConfig) -> "BodyLimit":
        """Return the limit on a body of many images."""
        return cls(live.max_request_bytes, "max_request_bytes", "body", RequestTooLarge)


async def read_images(
    request: Request, live: LiveConfig, hold: Hold, deadline: Deadline, parameters: Collection[str] = ()
) -> SentImages:
    """Read the images in a body: a single image, or many in a form or in JSON, depending on its Content-Type.

    Args:
        request: request with the body.
        live: the limits in force.
        hold: counts the bytes that arrive.
        deadline: time limit of the request.
        parameters: names of the parameters that a request may send, for messages.

    Raises:
        RequestError, ImageTooLarge: the body is invalid or too large; never more than the limits is read.
        Overloaded: memory for bodies is full.
        DeadlineExceeded: the time limit of the request is over.
    """
    reader, limit, many = _reader(request.headers.get("content-type", ""), live, parameters)
    images = await read_body(request, reader, limit, live, hold, deadline)
    if not images:
        raise EmptyRequest(f"the body holds no image: {_HOW_TO_SEND}")
    return SentImages(images, many, reader.fields)


async def read_body(
    request: Request, reader: BodyReader, limit: BodyLimit, live: LiveConfig, hold: Hold, deadline: Deadline
) -> Sequence[EncodedImage | Rejection]:
    """Read a body with a reader of its format; arguments and errors as in `read_images`."""
    pace = None
    try:
        async with asyncio.timeout(None) as timeout:
            pace = _Pace(timeout, live, deadline)
            hold.on_drop = pace.end
            async for piece in _pieces(request, limit, hold, pace):
                reader.write(piece)
        if not hold.bytes:
            raise EmptyRequest(f"the body is empty: {_HOW_TO_SEND}")
        return reader.finish()
    except TimeoutError:
        reader.discard()
        raise (hold.refused() if hold.was_dropped or not pace else pace.too_slow()) from None
    except BaseException:
        reader.discard()
        raise


def _reader(content_type: str, live: LiveConfig, parameters: Collection[str]) -> tuple[BodyReader, BodyLimit, bool]:
    """Find the reader for a content type, the limit of the body, and whether it may hold many images."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type in RAW_CONTENT_TYPES or media_type.startswith("image/"):
        return _RawImage(), BodyLimit.of_image(live), False
    if media_type == MULTIPART_CONTENT_TYPE:
        return MultipartImages(content_type, live.max_images_per_request), BodyLimit.of_request(live), True
    if media_type == JSON_CONTENT_TYPE:
        return JsonImages(live.max_images_per_request, parameters), BodyLimit.of_request(live), True
    raise _unsupported(media_type)


async def _pieces(request: Request, limit: BodyLimit, hold: Hold, pace: "_Pace") -> AsyncGenerator[bytes, None]:
    """Yield the body in pieces, with its Content-Encoding decoded.

    Refuses a large body by its Content-Length before reading, and otherwise once its decoded bytes exceed the limit.
    """
    decoder = decoder_for(",".join(request.headers.getlist("content-encoding")))
    _check_length(request, limit, hold)
    size = turn_bytes = 0
    async for arrived in request.stream():
        pace.note(len(arrived))
        for piece in decoder.decode(arrived) if decoder else (arrived,):
            size += len(piece)
            if size > limit.bytes:
                raise limit.error(f"the {limit.what} has more than {limit.bytes} bytes, the limit ({limit.key})")
            hold.take(len(piece))
            yield piece
            turn_bytes += len(piece)
            if decoder and turn_bytes >= _DECODED_PER_TURN_BYTES:
                turn_bytes = 0
                await asyncio.sleep(0)
    if decoder:
        decoder.finish()
    hold.finish()


def _check_length(request: Request, limit: BodyLimit, hold: Hold) -> None:
    declared = request.headers.get("content-length", "")
    if not (declared.isascii() and declared.isdecimal()):
        return
    length = int(declared) if len(declared) <= _MAX_LENGTH_DIGITS else limit.bytes + 1
    if length > limit.bytes:
        shown = declared[:_MAX_LENGTH_DIGITS]
        raise limit.error(f"the {limit.what} has {shown} bytes; the limit is {limit.bytes} ({limit.key})")
    hold.expect(length)


class _Pace:
    """Minimum rate of an arriving body: extends a timeout as bytes arrive.

    Args:
        timeout: ends the reading of the body; already entered.
        live: has the time limit for the whole body, and the minimum rate.
        deadline: time limit of the request.
    """

    def __init__(self, timeout: asyncio.Timeout, live: LiveConfig, deadline: Deadline) -> None:
        self._timeout, self._live, self._deadline = timeout, live, deadline
        self._began_at = asyncio.get_running_loop().time()
        self._most_s = min(live.body_timeout_s, deadline.left_s)
        self._bytes = 0
        self._allowed_s = -1.0
        self.note(0)

    def note(self, size: int) -> None:
        """Count bytes that have arrived, and extend the timeout."""
        self._bytes += size
        if self._allowed_s < self._most_s:
            earned_s = BODY_GRACE_S + self._bytes / self._live.min_body_bytes_per_s
            self._allowed_s = min(self._most_s, earned_s)
            self._timeout.reschedule(self._began_at + self._allowed_s)

    def end(self) -> None:
        """End the reading immediately."""
        if not self._timeout.expired():
            self._timeout.reschedule(0.0)

    def too_slow(self) -> BodyTimeout | DeadlineExceeded:
        """Make the error of a body that has not arrived in time, with values and limits."""
        live = self._live
        if self._allowed_s < self._most_s:
            return BodyTimeout(
                f"{self._bytes} bytes of the body have arrived within {self._allowed_s:.1f} s; after "
                f"{BODY_GRACE_S:g} s it must come at {live.min_body_bytes_per_s} bytes a second or faster "
                "(min_body_bytes_per_s)"
            )
        if self._most_s < live.body_timeout_s:
            return self._deadline.exceeded()
        return BodyTimeout(f"the body has not arrived within {live.body_timeout_s:g} s (body_timeout_s)")


class _RawImage:
    """A body that is one image."""

    fields: Mapping[str, Sequence[str]] = MappingProxyType({})

    def __init__(self) -> None:
        self._pieces: list[Bytes] = []

    def write(self, piece: bytes) -> None:
        add_piece(self._pieces, piece)

    def finish(self) -> list[EncodedImage]:
        return [EncodedImage(*self._pieces)]

    def discard(self) -> None:
        self._pieces.clear()


def _unsupported(media_type: str) -> UnsupportedContentType:
    if media_type == URLENCODED_CONTENT_TYPE:
        return UnsupportedContentType(
            f"unsupported content type {URLENCODED_CONTENT_TYPE}; curl -d sends it by default, and also removes the "
            f"line breaks of a file: {_HOW_TO_SEND_ONE}. Otherwise {_HOW_TO_SEND}"
        )
    if media_type.startswith("multipart/"):
        return UnsupportedContentType(
            f"unsupported content type {media_type[:_MAX_SHOWN_CHARACTERS]}; the only multipart type is "
            f"{MULTIPART_CONTENT_TYPE}: {_HOW_TO_SEND}"
        )
    return UnsupportedContentType(f"unsupported content type {media_type[:_MAX_SHOWN_CHARACTERS]}: {_HOW_TO_SEND}")
