"""HTTP status of each error, in one table."""

from collections.abc import Mapping
from typing import Final

from deployments.request_errors import (
    BodyTimeout,
    DeadlineExceeded,
    Overloaded,
    RequestError,
    RequestTooCostly,
    RequestTooLarge,
    TooManyImages,
    Unauthorized,
    UnsupportedContentEncoding,
    UnsupportedContentType,
)
from pipeline.errors import (
    ClientError,
    DarkroomError,
    EngineClosed,
    HeadFailed,
    ImageError,
    ImageTooCostly,
    ImageTooLarge,
    ServerError,
    TooManyPixels,
    TooMuchMemory,
    UnsupportedFormat,
)

STATUS_BY_ERROR: Final[Mapping[type[DarkroomError], int]] = {
    Unauthorized: 401,
    RequestTooLarge: 413,
    TooManyImages: 413,
    RequestTooCostly: 413,
    BodyTimeout: 408,
    UnsupportedContentType: 415,
    UnsupportedContentEncoding: 415,
    RequestError: 400,
    ImageTooLarge: 413,
    TooManyPixels: 413,
    ImageTooCostly: 413,
    TooMuchMemory: 413,
    UnsupportedFormat: 415,
    HeadFailed: 500,
    ImageError: 422,
    ClientError: 400,
    EngineClosed: 503,
    DeadlineExceeded: 504,
    Overloaded: 503,
    ServerError: 500,
}
"""Status of each error; a class that is not listed has the status of its base class."""

NO_CONTENT: Final = 204
UNAUTHORIZED: Final = 401
CLIENT_GONE: Final = 499  # never read; nginx's status for a client that has disconnected
INTERNAL_ERROR: Final = 500
UNAVAILABLE: Final = 503


def status_of(error: DarkroomError) -> int:
    """Return the status of an error: that of its class or of the nearest listed base class."""
    return next(STATUS_BY_ERROR[kind] for kind in type(error).__mro__ if kind in STATUS_BY_ERROR)
