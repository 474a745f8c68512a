"""Tests of the shortened error of a failed start, made of tracebacks as Serve reports them."""

import traceback
from collections.abc import Callable
from typing import Any

import pytest

from deployments.local.start_failure import shortened
from pipeline.errors import InvalidModel

BIRDS = compile("def build():\n    return {}['robin']\n", "/home/user/birds.py", "exec")
SERVE = compile("def start(build):\n    return build()\n", "/usr/lib/site-packages/ray/serve/replica.py", "exec")


def _function(code: Any, name: str) -> Callable[..., Any]:
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - stands for a file of the user's or of Ray's
    function: Callable[..., Any] = names[name]
    return function


def _reported(build: Callable[[], object]) -> str:
    """Return the message with which Serve reports what a replica raises at its start."""
    try:
        _function(SERVE, "start")(build)
    except Exception:  # noqa: BLE001 - as Serve
        inner = traceback.format_exc()
    ray = '\x1b[36mray::ServeReplica:birds:Model()\x1b[39m\n  File "/a/site-packages/ray/worker.py", line 1, in get\n'
    return f"The deployment failed to start 3 times in a row. Error:\n{ray}RuntimeError: {inner}"


def _caused(build: Callable[[], object]) -> str:
    """Return the message of the other form that Ray has: the cause first, the replica's part without a beginning."""
    cause, _, rest = _reported(build).partition("The above exception was the direct cause")
    words, _, frames = rest.partition("Traceback (most recent call last):")
    return f"{cause}The above exception was the direct cause{words}ray::ServeReplica:birds:Model() (pid=1){frames}"


def _refuse_settings() -> None:
    raise ValueError("user_config: top_k: 5 is above max_top_k: 3; write a smaller top_k")


def _fail_in_birds() -> None:
    try:
        _function(BIRDS, "build")()
    except KeyError as error:
        raise InvalidModel("model: birds:build fails: KeyError: 'robin' (in /home/user/birds.py:2)") from error


def _lack_memory() -> None:
    raise MemoryError("first line\nsecond line")


@pytest.mark.parametrize("report", [_reported, _caused])
def test_a_users_error_is_a_sentence_and_his_own_traceback(report: Callable[[Callable[[], object]], str]) -> None:
    told = shortened(report(_fail_in_birds))
    assert told.splitlines()[0] == "model: birds:build fails: KeyError: 'robin' (in /home/user/birds.py:2)"
    assert "Traceback of your code:\n" in told
    assert '  File "/home/user/birds.py", line 2, in build' in told
    assert "\nKeyError: 'robin'" in told
    assert "site-packages" not in told
    assert "direct cause" not in told
    assert told.count("Traceback") == 1


@pytest.mark.parametrize(
    ("fail", "says"),
    [
        (_refuse_settings, "user_config: top_k: 5 is above max_top_k: 3; write a smaller top_k"),
        (_lack_memory, "MemoryError: first line\nsecond line"),
    ],
)
def test_the_innermost_error_is_the_sentence(fail: Callable[[], object], says: str) -> None:
    """Only the last error of Serve's report stays, with its class unless Darkroom itself refuses a setting with it."""
    assert shortened(_reported(fail)).startswith(says)


def test_a_message_without_a_traceback_stays() -> None:
    assert shortened(" no replica could be placed\n") == "no replica could be placed"
