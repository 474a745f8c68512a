"""What is logged of an error: one line with request id, class, cause, stage and status.

Serve's own log carries the lines, as JSON where `logging_config` says so, and adds time, level and request id. A line
holds nothing of an image and no file name; a key never reaches a message (`access.py`). What clients do goes to the
log's file alone; what is at fault here stands on the console too.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from deployments.responses import CLIENT_GONE, UNFORESEEN, status_of
from pipeline.errors import (
    ClientError,
    DarkroomError,
    DeadlineExceeded,
    DeviceFailure,
    EmptyImage,
    EngineClosed,
    ImageError,
    ImageTooLarge,
    InvalidModel,
    MalformedEncoding,
    NonFiniteScores,
    Overloaded,
    RequestError,
    ServerError,
    Stuck,
    Unauthorized,
    UnclassifiableImage,
    WorkerFailure,
)

logger = logging.getLogger("deployments")

STAGE: Final[Mapping[type[DarkroomError], str]] = {
    Unauthorized: "access",  # whether a key opens
    Overloaded: "admission",  # whether there is room
    RequestError: "read",  # the body -> images
    EmptyImage: "read",
    MalformedEncoding: "read",
    ImageTooLarge: "read",
    EngineClosed: "queue",  # waiting for a worker or for the device
    DeadlineExceeded: "queue",
    Stuck: "queue",
    ImageError: "decode",  # bytes -> pixels, in a worker
    WorkerFailure: "decode",
    UnclassifiableImage: "device",  # pixels -> classes
    NonFiniteScores: "device",
    DeviceFailure: "device",
    InvalidModel: "start",  # before anything is served; what changes later is "configure"
    ClientError: "read",
    ServerError: "respond",  # outcomes -> JSON; also whatever else nobody has foreseen
}
"""Where on an image's way each error arises; a class that is not named has its base's."""

_QUIETLY: Final = {"log_to_stderr": False}
"""For Serve: not on the console, where a line passes three more processes."""


def stage_of(error: DarkroomError) -> str:
    """The stage of an error, its own or that of its nearest base."""
    return next(STAGE[kind] for kind in type(error).__mro__ if kind in STAGE)


def log_refusal(error: DarkroomError, position: int | None = None) -> None:
    """Logs why a request, or the image at a position among many, has no prediction.

    A traceback stands in the line of a server error alone: what a client has sent is at fault nowhere in the code.
    """
    expected = isinstance(error, ClientError | Overloaded | DeadlineExceeded)
    what = "refused" if position is None else f"image {position} refused"
    logger.log(
        logging.INFO if expected else logging.ERROR,
        "%s: %s: %s",
        what,
        type(error).__name__,
        error,
        extra={**_fields(error, stage_of(error), status_of(error), position), **(_QUIETLY if expected else {})},
        exc_info=None if expected else error,
    )


def log_no_such_page(error: Exception, status: int, asked: str) -> None:
    """Logs that something was asked for which is not served."""
    logger.info("refused: %s: %s", asked, error, extra={**_fields(error, "access", status), **_QUIETLY})


def log_gone(stage: str) -> None:
    """Logs that a client has not waited for its answer."""
    cause = "the client has closed its connection before it was answered"
    fields = {"error": "ClientGone", "cause": cause, "stage": stage, "status": CLIENT_GONE}
    logger.info(cause, extra={**fields, **_QUIETLY})


def log_unforeseen(error: Exception) -> None:
    """Logs an exception that is none of Darkroom's, with its traceback."""
    extra = _fields(error, "respond", UNFORESEEN)
    logger.error("unforeseen: %s: %s", type(error).__name__, error, extra=extra, exc_info=error)


def log_warnings(warnings: Sequence[str]) -> None:
    """Logs what an operator should know of how the service was sized, a line each."""
    for cause in warnings:
        logger.warning(cause, extra={"cause": cause, "stage": "configure"})


def log_misconfigured(what: str, cause: str) -> None:
    """Logs that a setting which was changed while the service runs cannot be used, and what follows from it."""
    fields = {"error": "Misconfigured", "cause": cause, "stage": "configure", "status": UNFORESEEN}
    logger.error("%s: %s", what, cause, extra=fields)


def adopt_loggers() -> None:
    """Has Darkroom's lines go where Serve's go, whatever `logging_config` makes of that, and whatever level it sets.

    Serve's own level is above theirs, as a request costs it a line that is thrown away in the end.
    """
    for name in ("pipeline", "deployments"):
        logger = logging.getLogger(name)
        logger.parent = logging.getLogger("ray.serve")
        logger.setLevel(logging.INFO)


def _fields(error: Exception, stage: str, status: int, position: int | None = None) -> dict[str, Any]:
    fields = {"error": type(error).__name__, "cause": str(error), "stage": stage, "status": status}
    return fields if position is None else {**fields, "position": position}
