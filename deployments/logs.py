"""Log lines of errors: one line with request id, class, cause, stage and status.

Serve's own log carries the lines, as JSON where `logging_config` says so, and adds time, level and request id. A line
holds nothing of an image and no file name; a key never reaches a message (`auth.py`). What clients do goes to the
log's file alone; what is at fault here stands on the console too.

Lines of one kind that come too often are counted instead (`log_rate.py`). What a client has sent, as part of a cause,
is cut and has its control characters escaped: it can neither fill a line nor begin a new one.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from deployments.http.statuses import CLIENT_GONE, INTERNAL_ERROR, status_of
from deployments.log_rate import REPORT_PERIOD_S, LogRate
from deployments.request_errors import DeadlineExceeded, Overloaded
from pipeline.errors import ClientError, DarkroomError
from pipeline.records import Outcome, Rejection

logger = logging.getLogger("deployments")

MAX_CAUSE_CHARACTERS: Final = 500
"""The most that a line tells of a cause."""

_NOT_ON_THE_CONSOLE: Final = {"log_to_stderr": False}
"""For Serve: not on the console, where a line passes three more processes."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """Lines that are alike: what they begin with, and the fields that tell why."""

    what: str
    error: str
    stage: str
    status: int  # 0 where it is no request's
    level: int
    place: str = ""  # in the code, where an exception was raised


_rate = LogRate[_Kind]()
_SERVE_LOGGER: Final = logging.getLogger("ray.serve")


def log_refusal(error: DarkroomError, position: int | None = None, request_id: str = "") -> None:
    """Logs why a request, or the image at a position among many, has no prediction.

    A traceback stands in the line of a server error alone: what a client has sent is at fault nowhere in the code.

    Args:
        error: why.
        position: of the image among the others of its request.
        request_id: where Serve does not know it, as the request has not reached it.
    """
    level = logging.INFO if isinstance(error, ClientError | Overloaded | DeadlineExceeded) else logging.ERROR
    what = "refused" if position is None else "image refused"
    if not _rate.admits(kind := _Kind(what, type(error).__name__, error.stage, status_of(error), level)):
        return
    if position is not None:
        what = f"image {position} refused"
    known = {"position": position, "request_id": request_id or None}
    extra = {name: value for name, value in known.items() if value is not None}
    _log(kind, f"{what}: {kind.error}", str(error), error, extra)


def log_refused_images(outcomes: Sequence[Outcome]) -> None:
    """Logs why images among many have no prediction, a line each."""
    for position, outcome in enumerate(outcomes):
        if isinstance(outcome, Rejection):
            log_refusal(outcome.error, position)


def log_no_such_page(error: Exception, status: int, asked: str) -> None:
    """Logs that something was asked for which is not served."""
    if _rate.admits(kind := _Kind("refused", type(error).__name__, "access", status, logging.INFO)):
        _log(kind, f"refused: {readable(asked)}", str(error), error)


def log_gone(stage: str) -> None:
    """Logs that a client has not waited for its answer."""
    if _rate.admits(kind := _Kind("gone", "ClientGone", stage, CLIENT_GONE, logging.INFO)):
        _log(kind, "gone", "the client has closed its connection before it was answered")


def log_unforeseen(error: Exception) -> None:
    """Logs an exception that is none of Darkroom's, with its traceback."""
    kind = _Kind("unforeseen", type(error).__name__, "respond", INTERNAL_ERROR, logging.ERROR, _place(error))
    if _rate.admits(kind):
        _log(kind, f"unforeseen: {kind.error}", str(error), error)


def log_left_out(after_s: float = REPORT_PERIOD_S) -> None:
    """Logs how many lines of each kind were left out, once the first of them is so many seconds old."""
    for each in _rate.left_out(after_s):
        kind, cause = each.kind, f"{each.count:,} more like this in the last {each.span_s:.0f} s"
        _log(kind, f"{kind.what}: {kind.error}" if kind.error else kind.what, cause, extra={"more": each.count})


def readable(text: str) -> str:
    """A text for a line of the log: of bounded length, with control characters as escapes."""
    start = text[:MAX_CAUSE_CHARACTERS]
    if not start.isprintable():
        start = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in start)[:MAX_CAUSE_CHARACTERS]
    return start if len(text) <= MAX_CAUSE_CHARACTERS else f"{start}... ({len(text)} characters)"


def log_warnings(warnings: Sequence[str]) -> None:
    """Logs what an operator should know of how the service was sized, a line each."""
    for cause in warnings:
        logger.warning(cause, extra={"cause": cause, "stage": "configure"})


def log_misconfigured(what: str, cause: str) -> None:
    """Logs that a setting which was changed while the service runs cannot be used, and what follows from it."""
    fields = {"error": "Misconfigured", "cause": cause, "stage": "configure", "status": INTERNAL_ERROR}
    logger.error("%s: %s", what, cause, extra=fields)


def adopt_loggers() -> None:
    """Has Darkroom's lines go where Serve's go, whatever `logging_config` makes of that, and whatever level it sets.

    Serve's own level is above theirs, as a request costs it a line that is thrown away in the end.
    """
    for name in ("pipeline", "deployments"):
        logger = logging.getLogger(name)
        logger.parent = _SERVE_LOGGER
        logger.setLevel(logging.INFO)
    logging.getLogger("pipeline").propagate = False
    logging.getLogger("pipeline").handlers = [_Relay()]


class _Relay(logging.Handler):
    """Hands the pipeline's lines on to Serve's logger: an image may cause one as well, a traceback with it."""

    def emit(self, record: logging.LogRecord) -> None:
        stage, place = getattr(record, "stage", "pipeline"), f"{record.pathname}:{record.lineno}"
        if _rate.admits(_Kind(record.msg, "", stage, 0, record.levelno, place)):
            _SERVE_LOGGER.handle(record)


def _log(
    kind: _Kind, what: str, cause: str, error: Exception | None = None, extra: Mapping[str, Any] | None = None
) -> None:
    expected, cause = kind.level == logging.INFO, readable(cause)
    fields = {"error": kind.error, "cause": cause, "stage": kind.stage, "status": kind.status, **(extra or {})}
    logger.log(
        kind.level,
        "%s: %s",
        what,
        cause,
        extra={**fields, **(_NOT_ON_THE_CONSOLE if expected else {})},
        exc_info=None if expected else error,
    )


def _place(error: Exception) -> str:
    """File and line that raised an exception."""
    traceback = error.__traceback__
    while traceback and traceback.tb_next:
        traceback = traceback.tb_next
    return f"{traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}" if traceback else ""
