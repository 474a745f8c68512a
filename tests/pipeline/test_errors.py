"""Tests of every error of Darkroom's own."""

import inspect
import pickle

import pytest

from deployments import request_errors
from pipeline import errors
from pipeline.errors import ClientError, DarkroomError, ServerError

CLASSES: dict[str, type[Exception]] = {
    name: cls
    for module in (errors, request_errors)
    for name, cls in inspect.getmembers(module, inspect.isclass)
    if issubclass(cls, DarkroomError)
}


def test_every_error_is_either_the_client_s_or_the_server_s() -> None:
    """Every error belongs to the client or to the server; none hangs on the base class, which has no status."""
    own = [cls for cls in CLASSES.values() if cls is not DarkroomError]
    assert all(issubclass(cls, ClientError) != issubclass(cls, ServerError) for cls in own)


@pytest.mark.parametrize("name", CLASSES)
def test_errors_cross_the_border_between_processes(name: str) -> None:
    """Errors keep their class, message and attributes when they are pickled between processes."""
    sent = CLASSES[name]("torn at byte 7")
    error = pickle.loads(pickle.dumps(sent))  # noqa: S301 - pickled in the same line
    assert type(error) is CLASSES[name]
    assert (str(error), vars(error)) == (str(sent), vars(sent))
    assert "torn at byte 7" in (str(error), *vars(error).values())
