"""Log lines of errors: one line with request id, class, cause, stage and status.

The lines are part of Serve's own log, as JSON if `logging_config` says so; Serve adds time, level and request id. A
line holds no image data and no file name, and a message never holds a key (`auth.py`). Errors of clients are written to
the log file alone; errors of the service appear on the console too.

Lines of one kind that come too often are counted instead (`log_rate.py`). Text from a client that is part of a cause is
cut to a maximum length and its control characters are escaped: it can neither fill the log nor begin a new line.
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
"""Length to which the cause in a line is cut."""

_NOT_ON_THE_CONSOLE: Final = {"log_to_stderr": False}
"""Tells Serve not to write a line to the console: on its way there it passes three more processes."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """Lines that are alike: the words they begin with, and the fields that give the reason."""

    what: str
    error: str
    stage: str
    status: int  # HTTP status; 0 if the line is not about a request
    level: int
    place: str = ""  # file and line that raised an exception


_rate = LogRate[_Kind]()
_SERVE_LOGGER: Final = logging.getLogger("ray.serve")


def log_refusal(error: DarkroomError, position: int | None = None, request_id: str = "") -> None:
    """Log why a request, or the image at a position among many, has no prediction.

    Only the line of a server error has a traceback: an error in the client's data is no fault of the code.

    Args:
        error: the reason.
        position: index of the image in its request; None for the whole request.
        request_id: given if the request has not reached Serve, which then cannot add the id.
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
    """Log why images of a request with many have no prediction, one line an image."""
    for position, outcome in enumerate(outcomes):
        if isinstance(outcome, Rejection):
            log_refusal(outcome.error, position)


def log_no_such_page(error: Exception, status: int, asked: str) -> None:
    """Log a request for a path or method that is not served."""
    if _rate.admits(kind := _Kind("refused", type(error).__name__, "access", status, logging.INFO)):
        _log(kind, f"refused: {readable(asked)}", str(error), error)


def log_gone(stage: str) -> None:
    """Log that a client has disconnected before its answer."""
    if _rate.admits(kind := _Kind("gone", "ClientGone", stage, CLIENT_GONE, logging.INFO)):
        _log(kind, "gone", "the client has closed its connection before it was answered")


def log_unforeseen(error: Exception) -> None:
    """Log an exception that is no `DarkroomError`, with its traceback."""
    kind = _Kind("unforeseen", type(error).__name__, "respond", INTERNAL_ERROR, logging.ERROR, _place(error))
    if _rate.admits(kind):
        _log(kind, f"unforeseen: {kind.error}", str(error), error)


def log_left_out(after_s: float = REPORT_PERIOD_S) -> None:
    """Log how many lines of each kind were left out, once the first of them is `after_s` seconds old."""
    for each in _rate.left_out(after_s):
        kind, cause = each.kind, f"{each.count:,} more like this in the last {each.span_s:.0f} s"
        _log(kind, f"{kind.what}: {kind.error}" if kind.error else kind.what, cause, extra={"more": each.count})


def readable(text: str) -> str:
    """Make a text fit for a log line: cut to a maximum length, with control characters escaped."""
    start = text[:MAX_CAUSE_CHARACTERS]
    if not start.isprintable():
        start = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in start)[:MAX_CAUSE_CHARACTERS]
    return start if len(text) <= MAX_CAUSE_CHARACTERS else f"{start}... ({len(text)} characters)"


def log_warnings(warnings: Sequence[str]) -> None:
    """Log warnings for the operator about the configuration, one line each."""
    for cause in warnings:
        logger.warning(cause, extra={"cause": cause, "stage": "configure"})


def log_misconfigured(what: str, cause: str) -> None:
    """Log that a setting changed at run time cannot be used (`cause`), and the consequence (`what`)."""
    fields = {"error": "Misconfigured", "cause": cause, "stage": "configure", "status": INTERNAL_ERROR}
    logger.error("%s: %s", what, cause, extra=fields)


def adopt_loggers() -> None:
    """Route Darkroom's log lines, from INFO up, to wherever Serve's own lines go, whatever level Serve has.

    Serve's own level is higher: at INFO it makes a line for each request, even if the line is thrown away in the end.
    """
    for name in ("pipeline", "deployments"):
        logger = logging.getLogger(name)
        logger.parent = _SERVE_LOGGER
        logger.setLevel(logging.INFO)
    logging.getLogger("pipeline").propagate = False
    logging.getLogger("pipeline").handlers = [_Relay()]


class _Relay(logging.Handler):
    """Passes the pipeline's lines to Serve's logger at a limited rate: an image may cause them, with tracebacks."""

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
    """Return the file and line that raised an exception."""
    traceback = error.__traceback__
    while traceback and traceback.tb_next:
        traceback = traceback.tb_next
    return f"{traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}" if traceback else ""
