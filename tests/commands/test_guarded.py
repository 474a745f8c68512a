"""Tests of commands that cannot go on: each ends with one sentence and an exit status."""

import errno
import os
import shlex
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from commands.guarded import Guarded
from commands.main import app
from harness.repository import ROOT
from tests.support.typed import PROGRAM, started, typed
from tests.support.waiting import until

DARKROOM = shlex.join(PROGRAM)
KEY = "0123456789abcdef-secret"


def in_shell(line: str, folder: Path = ROOT) -> tuple[int, str, str]:
    """Run a line of bash that contains `darkroom`; standard input is empty."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = ["bash", "-c", "set -o pipefail; " + line.replace("darkroom", DARKROOM)]
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def test_all_commands_are_guarded() -> None:
    assert app.info.cls is Guarded


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied", "/a/b"), "/a/b: Permission denied"),
        (FileNotFoundError(errno.ENOENT, "No such file", b"/a\xff"), r"/a\udcff: No such file"),
        (TimeoutError("timed out"), "timed out"),
        (MemoryError(), "there is not enough memory"),
        (RuntimeError("Could not determine home directory."), "set HOME"),
    ],
)
def test_an_error_of_the_system_is_one_sentence(error: Exception, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operating system error is one sentence; with --debug the traceback is printed too."""
    _check_raises(error, monkeypatch)
    said = typed("check")
    assert (said.exit_code, said.stdout, said.stderr.count("\n")) == (3, "", 1)
    assert said.stderr.startswith("darkroom: ")
    assert says in said.stderr
    said = typed("--debug", "check")
    assert said.exit_code == 3
    assert "in _raise" in said.stderr


def test_a_defect_stays_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect is shown with Python's own traceback, which prints no values of variables."""
    _check_raises(KeyError("nowhere"), monkeypatch)
    said = typed("check")
    assert said.exit_code == 3
    assert "in _raise" in said.stderr
    assert said.stderr.splitlines()[-1].startswith("darkroom: this is a defect")


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), 130), (BrokenPipeError(), 128 + signal.SIGPIPE)])
def test_who_stops_it_is_no_error(error: BaseException, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _check_raises(error, monkeypatch)
    said = typed("check")
    assert said.exit_code == status
    assert "Traceback" not in said.stderr


def _check_raises(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def _raise(_: Path) -> None:
        raise error

    monkeypatch.setattr("deployments.checks.configuration.read_configuration", _raise)


@pytest.mark.parametrize(
    "arguments",
    [["check", ""], ["predict", ""], ["predict", "a", "--output", ""], ["predict", "--config=", "a"], ["top", ""]],
    ids=" ".join,
)
def test_an_empty_argument_is_told(arguments: list[str]) -> None:
    """An empty argument is an error.

    A shell makes one from an unset variable, and as a path it would be the working directory.
    """
    said = typed(*arguments)
    assert (said.exit_code, said.stderr) == (
        2,
        "darkroom: an argument is empty; is a variable of the shell not set?\n",
    )


@pytest.mark.parametrize(
    ("line", "status", "says"),
    [
        ("darkroom check --no-model >&-", 3, "Bad file descriptor"),
        ("darkroom --help >&-", 3, "Bad file descriptor"),
        ("darkroom --version >/dev/full", 3, "No space left on device"),
        ("darkroom check --no-model | head -1", 128 + signal.SIGPIPE, ""),
        ("darkroom check nowhere 2>&-", 1, ""),
        ("darkroom check nowhere 2>/dev/full", 1, ""),
        ("darkroom check nowhere <&- >&- 2>&-", 1, ""),
        ("darkroom predict - <&-", 2, "cannot read names from the standard input: Bad file descriptor"),
        ("darkroom check --no-model <(cat serve_config.yaml) >/dev/null", 0, ""),
        ("darkroom check $'\\xff\\e[2J'", 1, r"cannot read \udcff\x1b[2J"),
        ("darkroom check $(printf 'x%.0s' {1..100000})", 1, "File name too long"),
    ],
)
def test_streams_and_names_of_every_kind(line: str, status: int, says: str) -> None:
    """Closed streams, readers that have gone and odd names end a command with one sentence, never a traceback."""
    code, _, stderr = in_shell(line)
    assert (code, "Traceback" in stderr, "Exception ignored" in stderr) == (status, False, False)
    assert says in stderr
    assert stderr.count("\n") == bool(says)
    assert len(stderr) < 20_000


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["http://my..host:8000"], 2, "has no valid host name"),
        (["http://" + "x" * 300], 2, "has no valid host name"),
        (["http://[::1"], 2, "is not an address"),
        (["http://256.1.1.1"], 2, "is not an address"),
        (["http://127.0.0.1:99999"], 2, "is not the address of a service"),
        (["ftp://127.0.0.1"], 2, "is not the address of a service"),
        (["127.0.0.1:8000"], 2, "is not the address of a service"),
        (["http://127.0.0.1/?a=b"], 2, "is not the address of a service"),
        (["http://\udcff"], 2, "is not an address"),
        ([f"http://user:{KEY}@127.0.0.1"], 2, "no user and no password"),
        (["--key", f"{KEY} {KEY}"], 2, "malformed key"),
        (["--key", f"{KEY}ключ"], 2, "malformed key"),
        (["--key", f"{KEY}\n"], 2, "malformed key"),
        (["http://127.0.0.1:1"], 1, "no service answers at http://127.0.0.1:1/stats"),
        (["http://[::1]:1/classify/", "--key", KEY], 1, "no service answers at http://[::1]:1/classify/stats"),
        (["https://127.0.0.1:1"], 1, "no service answers at https://127.0.0.1:1/stats"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_addresses_and_keys_of_every_kind(arguments: list[str], status: int, says: str) -> None:
    """A wrong address or a wrong key is one sentence, which does not repeat the key."""
    said = typed("top", "--once", *arguments)
    assert (said.exit_code, said.stdout, said.stderr.count("\n")) == (status, "", 1)
    assert says in said.stderr
    assert KEY not in said.stderr


def test_what_can_be_no_output_is_told_before_anything_starts(tmp_path: Path) -> None:
    """An output that cannot be written is an error before any process starts; here a folder, and too long a name."""
    (tmp_path / "a.jpg").touch()
    for output, says in ((tmp_path, "Is a directory"), (tmp_path / ("x" * 300), "File name too long")):
        said = typed("predict", tmp_path / "a.jpg", "--output", output)
        assert (said.exit_code, said.stdout, said.stderr.count("\n")) == (2, "", 1)
        assert says in said.stderr


def test_many_names_that_are_not_there_are_a_short_message() -> None:
    said = typed("predict", *(f"{'n' * 500}{number}" for number in range(500)))
    assert (said.exit_code, said.stderr.count("\n")) == (2, 1)
    assert said.stderr.endswith("and 490 more\n")
    assert len(said.stderr) < 3000


def test_ctrl_c_is_heard_by_one_process_alone(tmp_path: Path) -> None:
    """Ctrl-C makes one sentence, although the terminal sends it to every process, here while they load torch."""
    (tmp_path / "a.jpg").write_bytes((ROOT / "examples/chelsea.jpg").read_bytes())
    process = started("predict", ".", cwd=tmp_path, start_new_session=True)
    _wait_for_children(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (130, b"")
    assert stderr.startswith(b"darkroom: stopped")
    assert stderr.count(b"\n") == 1


def _wait_for_children(pid: int) -> None:
    until(lambda: any("forkserver" in " ".join(child.cmdline()) for child in psutil.Process(pid).children()))
