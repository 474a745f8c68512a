"""The body of a request: its pieces while they arrive, within the limits on bytes, memory and time."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request

from deployments.http.body_deadline import BodyDeadline
from deployments.http.byte_budget import Hold
from deployments.http.content_coding import decoder_for
from deployments.request_errors import RequestTooLarge
from deployments.service_config import LiveConfig
from pipeline.errors import ImageTooLarge

_TURN_BYTES: Final = 1 << 20
"""Bytes of a compressed body that are decoded before others have the event loop: some milliseconds."""

_MAX_LENGTH_DIGITS: Final = 18


@dataclass(frozen=True, slots=True)
class Limit:
    """Limit on the bytes of a body, and how to say that it has more."""

    bytes: int
    key: str
    what: str
    error: type[RequestTooLarge | ImageTooLarge]

    @classmethod
    def of_image(cls, live: LiveConfig) -> "Limit":
        """The limit on a body that is one image."""
        return cls(live.max_image_bytes, "max_image_bytes", "image", ImageTooLarge)

    @classmethod
    def of_request(cls, live: LiveConfig) -> "Limit":
        """The limit on a body of many images."""
        return cls(live.max_request_bytes, "max_request_bytes", "body", RequestTooLarge)


async def body_pieces(
    request: Request, limit: Limit, hold: Hold, deadline: BodyDeadline
) -> AsyncGenerator[bytes, None]:
    """Yields the body in pieces, its Content-Encoding undone.

    Refuses by Content-Length before anything is read, and while reading by what has arrived, or has become of it.

    Args:
        request: whose body it is.
        limit: on its bytes.
        hold: counts them.
        deadline: is told of those that have arrived.

    Raises:
        RequestTooLarge, ImageTooLarge: it has more bytes than allowed.
        UnsupportedContentEncoding, MalformedRequest: it is compressed in another way, or is not what it says.
        Overloaded: there is no room for it now.
    """
    decoder = decoder_for(",".join(request.headers.getlist("content-encoding")))
    _check_length(request, limit, hold)
    size = turn_bytes = 0
    async for arrived in request.stream():
        deadline.note(len(arrived))
        for piece in decoder.decode(arrived) if decoder else (arrived,):
            size += len(piece)
            if size > limit.bytes:
                raise limit.error(f"the {limit.what} has more than {limit.bytes} bytes, the limit ({limit.key})")
            hold.take(len(piece))
            yield piece
            turn_bytes += len(piece)
            if decoder and turn_bytes >= _TURN_BYTES:
                turn_bytes = 0
                await asyncio.sleep(0)
    if decoder:
        decoder.finish()
    hold.finish()


def _check_length(request: Request, limit: Limit, hold: Hold) -> None:
    declared = request.headers.get("content-length", "")
    if not (declared.isascii() and declared.isdecimal()):
        return
    length = int(declared) if len(declared) <= _MAX_LENGTH_DIGITS else limit.bytes + 1
    if length > limit.bytes:
        shown = declared[:_MAX_LENGTH_DIGITS]
        raise limit.error(f"the {limit.what} has {shown} bytes; the limit is {limit.bytes} ({limit.key})")
    hold.expect(length)
