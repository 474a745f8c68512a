"""Tests of the places in a user's own code that messages name."""

from typing import Any

from pipeline.errors import InvalidModel
from pipeline.users_code import users_traceback

BIRDS = compile("import json\ndef build():\n    return json.loads('{')\n", "/home/user/birds.py", "exec")
"""A user's file with an error in its third line, which arises in a library."""


def _failure() -> InvalidModel:
    """Return the error with which Darkroom reports what a user's code raises."""
    names: dict[str, Any] = {}
    exec(BIRDS, names)  # noqa: S102 - stands for a user's file
    failure = InvalidModel("model: birds:build fails")
    try:
        names["build"]()
    except ValueError as error:
        failure.__cause__ = error
    return failure


def test_a_users_traceback_is_that_of_his_own_error() -> None:
    """The traceback has the user's line and those of the library that he calls, and ends with his own error."""
    told = users_traceback(_failure()).splitlines()
    assert told[0] == "Traceback of your code:"
    assert told[-1].startswith("json.decoder.JSONDecodeError: ")
    assert any('"/home/user/birds.py", line 3, in build' in line for line in told)
    assert any("json/decoder.py" in line for line in told)


def test_without_a_users_code_there_is_no_traceback() -> None:
    assert users_traceback(InvalidModel("weights: no such file")) == ""
