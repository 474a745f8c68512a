"""The second part of `darkroom check`: builds the models of a configuration, one after another, and prints them."""

import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from commands.ending import EXIT_INTERRUPTED, EXIT_REFUSED, EXIT_UNUSABLE, fail
from commands.files import read
from commands.terminal import Terminal
from commands.without_network import without_network
from deployments.checks.chosen_application import NotChosen, chosen_application, name_of
from deployments.checks.own_faults import own_applications, own_deployments, written_or_empty
from deployments.live_config import LiveConfig
from deployments.service_config import ServiceConfig
from pipeline.errors import ImageError, InvalidModel, ServerError
from pipeline.pinned_file import PinnedFile
from pipeline.users_code import users_traceback

if TYPE_CHECKING:
    from commands.model_check import ModelCheck


class _TooSlow(BaseException):
    """A model was not built in time; no Exception, as code around a user's own catches those."""


def check_models(
    console: Console, document: Mapping[str, Any], name: str | None, image: str | None, timeout_s: float
) -> list[str]:
    """Build the models of all applications, or of one, and print a table for each; return the faults.

    Args:
        console: destination of the tables.
        document: a configuration without faults.
        name: name of the only application whose model is built; None for all.
        image: file name of an image that each model labels; None for none.
        timeout_s: limit for each model.
    """
    applications = dict(own_applications(document))
    if name is not None:
        try:
            applications = dict([chosen_application(document, name)])
        except NotChosen as error:
            fail(str(error), EXIT_UNUSABLE)
    faults = []
    for path, application in applications.items():
        try:
            found = _built(application, image, timeout_s)
        except ServerError as error:
            faults.append(f"{path} ({name_of(application)}): {error}")
            sys.stderr.write(users_traceback(error))
            continue
        console.print(_table(f"{path} ({name_of(application)}): the model", found))
        if found.failed:
            faults.append(f"{path} ({name_of(application)}): {image} has no prediction")
    return faults


def _built(application: Mapping[str, Any], image: str | None, timeout_s: float) -> "ModelCheck":
    """Build the model of an application; end the command if the image cannot be read, or on Ctrl-C."""
    args = ServiceConfig.model_validate(written_or_empty(application, "args"))
    for setting, name in (("model", args.pipeline.model), ("weights", args.pipeline.weights)):
        if missing := PinnedFile.named(name, setting).missing():
            raise InvalidModel(missing)
    written = [written_or_empty(each, "user_config") for _, each in own_deployments(application)]
    live = LiveConfig.model_validate(written[0] if written else {})
    try:
        encoded = None if image is None else read(image, live.max_image_bytes)
    except ImageError as error:
        fail(f"{image}: {error}", EXIT_UNUSABLE)
    try:
        with _status() as tell, _within(timeout_s), redirect_stdout(sys.stderr), without_network():
            tell("loading PyTorch")
            from pipeline.decode.forkserver import start_forkserver

            start_forkserver()  # its imports run at the same time as those of the next line
            from commands.model_check import check_model

            return check_model(args.pipeline, live, encoded, tell)
    except _TooSlow:
        fail(f"{name_of(application)}: the model was not built within {timeout_s:g} s (--timeout-s)", EXIT_REFUSED)
    except KeyboardInterrupt:
        fail("stopped", EXIT_INTERRUPTED)


@contextmanager
def _status() -> Iterator[Any]:
    """Show the current step on a terminal; yield a function that is told each step."""
    with Terminal(stderr=True, highlight=False).status("") as status:
        yield status.update


@contextmanager
def _within(timeout_s: float) -> Iterator[None]:
    """Raise `_TooSlow` in the block after this time; what runs in C code is ended only when it returns."""

    def end(_number: int, _frame: object) -> None:
        raise _TooSlow

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, timeout_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _table(title: str, found: "ModelCheck") -> Table:
    table = Table(title=title, title_justify="left", box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, text in found.rows:
        table.add_row(Text(name), Text(text))
    return table
