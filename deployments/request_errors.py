"""Errors of the HTTP side: a request is wrong, or cannot be answered now.

    ClientError
    ├── RequestError         refuses a whole request, before any image is decoded
    │   └── Unauthorized     missing or unknown API key; raised before the body is read
    └── ImageError           refuses one image of a request
    ServerError              DeadlineExceeded, Overloaded: the client may retry

A new error is one class here, and at most one line in the table of statuses.
"""

from pipeline.errors import ClientError, ImageError, ServerError


class RequestError(ClientError):
    """Refuses the whole request."""


class Unauthorized(RequestError):
    """Missing or unknown API key."""

    stage = "access"


class MissingKey(Unauthorized):
    """The request has no API key."""


class WrongKey(Unauthorized):
    """The API key of the request is not in force."""


class MalformedRequest(RequestError):
    """The body, a header or a parameter is malformed."""


class EmptyRequest(RequestError):
    """The body holds no image."""


class RequestTooLarge(RequestError):
    """The body is over the limit in bytes."""


class TooManyImages(RequestError):
    """The body holds more images than one request may have."""


class RequestTooCostly(RequestError):
    """Decoding all images of the request would take more work than the limit for one request."""


class BodyTimeout(RequestError):
    """The body has not arrived in time."""


class UnsupportedContentType(RequestError):
    """Unsupported content type of the body."""


class UnsupportedContentEncoding(RequestError):
    """Unsupported Content-Encoding of the body."""


class MalformedEncoding(ImageError):
    """The image's transfer encoding (base64) cannot be read."""

    stage = "read"


class DeadlineExceeded(ServerError):
    """The time limit of the request is over; images not begun yet are dropped."""

    stage = "queue"


class Overloaded(ServerError):
    """The replica has too much work already; the client may retry the same request.

    Args:
        message: the value that is too large, and its limit.
        retry_after_s: whole seconds after which the client may retry.
        at_once: whether to answer without a delay: only this request has too little time, or its body was dropped.
    """

    stage = "admission"

    def __init__(self, message: str, *, retry_after_s: int = 1, at_once: bool = False) -> None:
        super().__init__(message)
        self.retry_after_s, self.at_once = retry_after_s, at_once
