"""Inwards: an HTTP body -> encoded images, or a refusal."""

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from starlette.requests import Request

from deployments.admission import Hold
from deployments.config import LiveConfig
from deployments.minute import SECONDS
from deployments.multipart import read_files
from deployments.pieces import add_piece
from pipeline.errors import (
    EmptyRequest,
    ImageTooLarge,
    MalformedEncoding,
    MalformedRequest,
    RequestTooLarge,
    SlowRequest,
    TooManyImages,
    UnsupportedContentType,
)
from pipeline.records import Bytes, EncodedImage, Rejection

TIMEOUT_HEADER: Final = "X-Request-Timeout-Ms"

RAW: Final = ("application/octet-stream", "")  # and image/*; no content type at all is taken for bytes
MULTIPART: Final = "multipart/form-data"
JSON: Final = "application/json"

_HOW_TO_SEND: Final = (
    f"send one image as image/* or {RAW[0]} (curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg'), "
    f"many as {MULTIPART} (curl -F image=@one.jpg -F image=@two.jpg) or {JSON} "
    '({"images": ["<base64>", ...]})'
)


@dataclass(frozen=True, slots=True)
class ImagesRequest:
    """What a client asked."""

    images: Sequence[EncodedImage | Rejection]  # in the client's order; rejected where not even bytes came out
    many: bool  # whether to answer with a list: the shape follows the content type, not the number
    top_k: int


def timeout_s(request: Request, live: LiveConfig) -> float:
    """Seconds until the client wants no answer any more: its X-Request-Timeout-Ms, or else what is configured.

    Raises:
        MalformedRequest: the header is no whole number above 0.
    """
    asked = request.headers.get(TIMEOUT_HEADER)
    if asked is None:
        return live.request_timeout_s
    if not asked.isdecimal() or not int(asked[:9]):
        raise MalformedRequest(f"{TIMEOUT_HEADER}: {asked[:40]} is not a whole number of milliseconds, 1 or more")
    return min(int(asked[:9]) / 1000, live.request_timeout_s)


def seconds(request: Request) -> int:
    """How much of the last minute `GET /stats` should tell of: all of it where `seconds` is not given.

    Raises:
        MalformedRequest: it is no whole number from 1 to 60.
    """
    asked = request.query_params.get("seconds", str(SECONDS))
    if not asked.isdecimal() or not 1 <= int(asked[:9]) <= SECONDS:
        raise MalformedRequest(f"seconds={asked[:40]} is not a whole number from 1 to {SECONDS}")
    return int(asked)


async def read_images_request(request: Request, live: LiveConfig, max_top_k: int, hold: Hold) -> ImagesRequest:
    """Reads a request's body, within the limits in force.

    Args:
        request: of `POST /predict`.
        live: the limits, and the default of `top_k`.
        max_top_k: the most that `top_k` may be.
        hold: counts what is read, before it is read where the length is known.

    Raises:
        RequestError, ImageTooLarge: what is refused, before more of the body is read than the limits allow.
        Overloaded: there is no room for it now.
    """
    try:
        async with asyncio.timeout(live.body_timeout_s):
            return await _read(request, live, max_top_k, hold)
    except TimeoutError:
        raise SlowRequest(f"the body has not arrived within {live.body_timeout_s:g} s (body_timeout_s)") from None


async def _read(request: Request, live: LiveConfig, max_top_k: int, hold: Hold) -> ImagesRequest:
    top_k = _top_k(request, live, max_top_k)
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type in RAW or content_type.startswith("image/"):
        return ImagesRequest([await _raw(request, live, hold)], many=False, top_k=top_k)
    if content_type == MULTIPART:
        images: Sequence[EncodedImage | Rejection] = await _multipart(request, live, hold)
    elif content_type == JSON:
        images = await _json(request, live, hold)
    else:
        raise UnsupportedContentType(f"a body of type {content_type} is not read: {_HOW_TO_SEND}")
    if not images:
        raise EmptyRequest(f"the body holds no image: {_HOW_TO_SEND}")
    return ImagesRequest(images, many=True, top_k=top_k)


def _top_k(request: Request, live: LiveConfig, max_top_k: int) -> int:
    asked = request.query_params.get("top_k")
    if asked is None:
        return live.top_k
    if not asked.isdecimal() or not 1 <= int(asked[:9]) <= max_top_k:
        raise MalformedRequest(f"top_k={asked[:40]} is not a whole number from 1 to {max_top_k}")
    return int(asked)


async def _raw(request: Request, live: LiveConfig, hold: Hold) -> EncodedImage:
    limit = _Limit(live.max_image_bytes, "max_image_bytes", "image", ImageTooLarge)
    image = EncodedImage(*await _pieces(request, hold, limit))
    if not image.size:
        raise EmptyRequest(f"the body is empty: {_HOW_TO_SEND}")
    return image


async def _multipart(request: Request, live: LiveConfig, hold: Hold) -> list[EncodedImage]:
    body = _bounded(request, hold, _of_request(live))
    return await read_files(body, request.headers["content-type"], live.max_images_per_request)


async def _json(request: Request, live: LiveConfig, hold: Hold) -> Sequence[EncodedImage | Rejection]:
    pieces = await _pieces(request, hold, _of_request(live))
    # Some milliseconds a megabyte: not on the event loop.
    return await asyncio.to_thread(_images_in_json, pieces, live.max_images_per_request)


def _images_in_json(pieces: Sequence[Bytes], limit: int) -> list[EncodedImage | Rejection]:
    try:
        document: Any = orjson.loads(b"".join(pieces))
    except orjson.JSONDecodeError as error:
        raise MalformedRequest(f"the body is not JSON: {error}") from None
    images = document.get("images") if isinstance(document, dict) and document.keys() == {"images"} else None
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise MalformedRequest('the body must be {"images": ["<base64>", ...]} and nothing else')
    if len(images) > limit:
        raise TooManyImages(f"the body holds {len(images)} images; the limit is {limit} (max_images_per_request)")
    return [_from_base64(image) for image in images]


def _from_base64(text: str) -> EncodedImage | Rejection:
    """Standard base64, with or without line breaks, also as a data: URL."""
    payload = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return EncodedImage(base64.b64decode("".join(payload.split()), validate=True))
    except (binascii.Error, ValueError) as error:
        return Rejection(MalformedEncoding(f"the image is not base64: {error}"))


@dataclass(frozen=True, slots=True)
class _Limit:
    """How many bytes a body may have, and how to say that it has more."""

    bytes: int
    key: str
    what: str
    error: type[RequestTooLarge | ImageTooLarge]


def _of_request(live: LiveConfig) -> _Limit:
    return _Limit(live.max_request_bytes, "max_request_bytes", "body", RequestTooLarge)


async def _pieces(request: Request, hold: Hold, limit: _Limit) -> list[Bytes]:
    pieces: list[Bytes] = []
    async for piece in _bounded(request, hold, limit):
        add_piece(pieces, piece)
    return pieces


async def _bounded(request: Request, hold: Hold, limit: _Limit) -> AsyncGenerator[bytes, None]:
    """The body in pieces; refuses by Content-Length before reading, and without one while reading."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal():
        if int(declared) > limit.bytes:
            raise limit.error(f"the {limit.what} has {declared} bytes; the limit is {limit.bytes} ({limit.key})")
        hold.take(int(declared))
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > limit.bytes:
            raise limit.error(f"the {limit.what} has more than {limit.bytes} bytes, the limit ({limit.key})")
        if size > hold.bytes:
            hold.take(size - hold.bytes)
        yield piece
