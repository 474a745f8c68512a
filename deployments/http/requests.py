"""Inwards: an HTTP body -> encoded images, or a refusal."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from starlette.requests import Request

from deployments.http.body import Limit, body_pieces
from deployments.http.body_deadline import BodyDeadline
from deployments.http.byte_budget import Hold
from deployments.http.json_images import FORM, JsonImages
from deployments.http.multipart import MultipartImages
from deployments.http.parameters import top_k
from deployments.http.pieces import add_piece
from deployments.request_errors import EmptyRequest, UnsupportedContentType
from deployments.service_config import LiveConfig
from pipeline.records import Bytes, EncodedImage, Rejection

BYTES: Final = "application/octet-stream"
RAW: Final = (BYTES, "binary/octet-stream", "")  # and image/*; no content type at all is taken for bytes
MULTIPART: Final = "multipart/form-data"
JSON: Final = "application/json"
FORM_FIELDS: Final = "application/x-www-form-urlencoded"

_AS_ONE: Final = "curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg'"
_HOW_TO_SEND: Final = (
    f"send one image as image/* or {BYTES} ({_AS_ONE}), "
    f"many as {MULTIPART} (curl -F image=@one.jpg -F image=@two.jpg) or {JSON} ({FORM})"
)
_SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class ImagesRequest:
    """Images to classify, and how to answer."""

    images: Sequence[EncodedImage | Rejection]  # in the client's order; rejected where not even bytes came out
    many: bool  # whether to answer with a list: the shape follows the content type, not the number
    top_k: int


class BodyReader(Protocol):
    """Takes a body in pieces and finds the images in it."""

    def write(self, piece: bytes) -> None:
        """Takes the next piece."""

    def finish(self) -> Sequence[EncodedImage | Rejection]:
        """Returns the images, in order."""

    def discard(self) -> None:
        """Frees what has arrived: an error that travels on keeps this object alive."""


async def read_images_request(request: Request, live: LiveConfig, max_top_k: int, hold: Hold) -> ImagesRequest:
    """Reads a request's body, within the limits in force.

    Args:
        request: to `/predict`.
        live: the limits, and the default of `top_k`.
        max_top_k: the most that `top_k` may be.
        hold: counts what arrives.

    Raises:
        RequestError, ImageTooLarge: what is refused, before more of the body is read than the limits allow.
        Overloaded: there is no room for it now.
    """
    wanted = top_k(request, live, max_top_k)
    reader, limit, many = _reader(request.headers.get("content-type", ""), live)
    images = await _read(request, reader, limit, live, hold)
    if not images:
        raise EmptyRequest(f"the body holds no image: {_HOW_TO_SEND}")
    return ImagesRequest(images, many, wanted)


def _reader(content_type: str, live: LiveConfig) -> tuple[BodyReader, Limit, bool]:
    """Finds the reader of a body of this type, its limit, and whether it may hold many images."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type in RAW or media_type.startswith("image/"):
        return _RawImage(), Limit.of_image(live), False
    if media_type == MULTIPART:
        return MultipartImages(content_type, live.max_images_per_request), Limit.of_request(live), True
    if media_type == JSON:
        return JsonImages(live.max_images_per_request), Limit.of_request(live), True
    raise _unsupported(media_type)


async def _read(
    request: Request, reader: BodyReader, limit: Limit, live: LiveConfig, hold: Hold
) -> Sequence[EncodedImage | Rejection]:
    deadline = None
    try:
        async with asyncio.timeout(None) as timeout:
            deadline = BodyDeadline(timeout, live)
            hold.on_give_way = deadline.end
            async for piece in body_pieces(request, limit, hold, deadline):
                reader.write(piece)
        if not hold.bytes:
            raise EmptyRequest(f"the body is empty: {_HOW_TO_SEND}")
        return reader.finish()
    except TimeoutError:
        reader.discard()
        raise (hold.refused() if hold.gave_way or not deadline else deadline.too_slow()) from None
    except BaseException:
        reader.discard()
        raise


def _unsupported(media_type: str) -> UnsupportedContentType:
    if media_type == FORM_FIELDS:
        return UnsupportedContentType(
            f"a body of type {FORM_FIELDS} is not read; curl -d sends it where no type is named, and also removes "
            f"the line breaks of a file: {_AS_ONE}. Otherwise {_HOW_TO_SEND}"
        )
    if media_type.startswith("multipart/"):
        return UnsupportedContentType(
            f"a body of type {media_type[:_SHOWN]} is not read; of multipart bodies only {MULTIPART} is: {_HOW_TO_SEND}"
        )
    return UnsupportedContentType(f"a body of type {media_type[:_SHOWN]} is not read: {_HOW_TO_SEND}")


class _RawImage:
    """A body that is one image."""

    def __init__(self) -> None:
        self._pieces: list[Bytes] = []

    def write(self, piece: bytes) -> None:
        add_piece(self._pieces, piece)

    def finish(self) -> list[EncodedImage]:
        return [EncodedImage(*self._pieces)]

    def discard(self) -> None:
        self._pieces.clear()
