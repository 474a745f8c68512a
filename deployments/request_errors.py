"""Errors that the edge raises: what is wrong with a request, or why it is not answered now.

    ClientError
    ├── RequestError         refuses a request whole, before anything is decoded
    │   └── Unauthorized     before its body is read
    └── ImageError           refuses one image of a request
    ServerError              the request may be sent again

A new error is one class here, and at most one line in the table of statuses.
"""

from pipeline.errors import ClientError, ImageError, ServerError


class RequestError(ClientError):
    """Refuses a request whole."""


class Unauthorized(RequestError):
    """The request does not show a key that opens this service."""

    stage = "access"


class MissingKey(Unauthorized):
    """The request shows no key."""


class WrongKey(Unauthorized):
    """The request shows a key that is not in force."""


class MalformedRequest(RequestError):
    """The body, a header or a parameter does not have the form it declares."""


class EmptyRequest(RequestError):
    """The body holds no image."""


class RequestTooLarge(RequestError):
    """The body is over the limit in bytes."""


class TooManyImages(RequestError):
    """The body holds more images than one request may."""


class RequestTooCostly(RequestError):
    """Decoding the images of the request would take more work than one request may make."""


class BodyTimeout(RequestError):
    """The body has not arrived in time."""


class UnsupportedContentType(RequestError):
    """The body's content type is none that is read."""


class UnsupportedContentEncoding(RequestError):
    """The body is compressed in a way that is not decoded."""


class MalformedEncoding(ImageError):
    """The image's transfer encoding (base64) cannot be read."""

    stage = "read"


class DeadlineExceeded(ServerError):
    """The time that the request had is over; what had not been begun of it is left."""

    stage = "queue"


class Overloaded(ServerError):
    """Too much is in work already; the same request may be sent again.

    Args:
        message: what is too much, and the limit.
        retry_after_s: when it may be sent again.
        at_once: whether its client should know at once: only this request has too little time, or it was given up.
    """

    stage = "admission"

    def __init__(self, message: str, *, retry_after_s: int = 1, at_once: bool = False) -> None:
        super().__init__(message)
        self.retry_after_s, self.at_once = retry_after_s, at_once
