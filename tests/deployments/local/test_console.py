"""Tests of the console: which lines of Ray's output a user sees, and that a file keeps all of them."""

import contextlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from deployments.local import console
from deployments.local.console import NO_GPU, Filter, Printed, announcement, say
from deployments.local.endpoint import Endpoint
from deployments.local.readiness import Info, Readiness
from deployments.local.serve_api import ServeApi
from deployments.local.waiting_replicas import WaitingReplicas

AT = "2026-01-31 12:00:00,000"
REPLICA = "(ServeReplica:darkroom:Model pid=7)"
ENDPOINT = Endpoint("127.0.0.1", 8000, "/")


def _ready(*infos: Info | None, failed: str | None = None) -> Readiness:
    """Return a start after which these applications answer, each under a path of its own if there are several."""
    several = len(infos) > 1
    endpoints = [replace(ENDPOINT, route_prefix=f"/models/{n}" if several else "/") for n in range(len(infos))]
    readiness = Readiness(endpoints, ServeApi("1-0", {}), ())
    readiness.answering.update(reversed([*zip(endpoints, infos, strict=True)]))  # the last one answers first
    if failed:
        readiness.failed[failed] = "the weights are made of cheese"
    return readiness


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (f"{REPLICA} INFO {AT} darkroom_Model ab12 -- weights: V1", False),
        (f"{REPLICA} WARNING {AT} darkroom_Model ab12 -- decoder process 8 ended; starting another", True),
        (f"{REPLICA} ERROR {AT} darkroom_Model ab12 -- unforeseen: KeyError", True),
        (f"{REPLICA} terminate called after throwing an instance of 'std::bad_alloc'", True),
        (f"{REPLICA} Traceback (most recent call last):", True),
        (f"{AT}\tINFO worker.py:2029 -- Started a local Ray instance.", False),
        (f"{AT}\tSUCC scripts.py:546 -- Submitted deploy config successfully.", False),
        (f"{AT}\tERROR scripts.py:600 -- Received unexpected error", True),
        (f"(raylet) [{AT} E 9 9] (raylet) node_manager.cc:1: 1 Workers killed due to memory pressure (OOM)", True),
        (f"(raylet) [{AT} I 9 9] (raylet) main.cc:1: started", False),
        ("(raylet) A worker died or was killed while executing a task by an unexpected system error.", True),
        (f"INFO {AT} serve 22154 -- Started Serve in namespace 'serve'.", False),
        (f"(ServeController pid=1) WARNING {AT} controller 1 -- host won't accept connections from HAProxy on "
         "other nodes; cross-node routing will fail", False),
        (f"(ServeReplica:darkroom:Replica pid=1) WARNING {AT} replica 1 -- device: auto found no GPU on any node of "
         "the cluster (1 alive), so the model runs on the CPU", False),
        ("", False),
    ],
)  # fmt: skip
def test_warnings_errors_and_what_has_no_level_are_shown(line: str, shown: bool) -> None:
    assert Filter().shows(line) is shown


def test_an_indented_line_belongs_to_the_one_before_it_from_the_same_process() -> None:
    lines = Filter()
    assert lines.shows(f"{REPLICA} ERROR {AT} darkroom_Model ab12 -- failed")
    assert not lines.shows(f"(ServeController pid=1) INFO {AT} serve 1 -- enabled:")
    assert not lines.shows("(ServeController pid=1)   • Direct ingress enabled")
    assert lines.shows(f'{REPLICA}   File "model.py", line 1, in forward')
    assert lines.shows(f"{REPLICA} ")


def test_of_a_controllers_traceback_the_innermost_error_is_shown_once() -> None:
    """The controller's traceback of a failed replica is cut to the error itself, once for all tries."""
    source = "(ServeController pid=1)"
    report = [
        f"ERROR {AT} controller 1 -- Exception in Replica(id='a'), the replica will be stopped.",
        "Traceback (most recent call last):",
        '  File "deployment_state.py", line 1, in check_ready',
        "ray.exceptions.RayTaskError(RuntimeError): ray::ServeReplica:birds:Model.initialize_and_get_metadata()",
        "RuntimeError: Traceback (most recent call last):",
        '  File "birds.py", line 7, in build',
        "pipeline.errors.InvalidModel: model: birds:build fails",
    ]
    lines = Filter()
    assert [lines.shows(f"{source} {line}") for line in report] == [True, *[False] * 5, True]
    assert [lines.shows(f"{source} {line}") for line in report] == [True, *[False] * 6]
    assert not lines.shows(f"{source} INFO {AT} controller 1 -- Starting another replica.")
    assert lines.shows(f"{source} terminate called after throwing an instance of 'std::bad_alloc'")


def test_a_warning_that_several_processes_give_is_shown_once() -> None:
    """A warning that several processes repeat is shown once.

    An error is shown each time, because it has happened again.
    """
    lines = Filter()
    for level, again in (("WARNING", False), ("ERROR", True)):
        assert lines.shows(f"(build pid=1) {level} {AT} build 1 -- {level} of the configuration")
        assert lines.shows(f"{REPLICA} {level} {AT} replica 1 -- {level} of the configuration") is again


def _printed(data: bytes, path: Path) -> Printed:
    """Return a reader that has read these bytes from a pipe."""
    reader, writer = os.pipe()
    printed = Printed(os.fdopen(reader, "rb"), path, WaitingReplicas(dict))
    printed.start()
    with os.fdopen(writer, "wb") as pipe:
        pipe.write(data)
    printed.join(30)
    assert not printed.is_alive()
    return printed


def test_everything_is_kept_and_errors_are_shown_without_colours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise, error = f"INFO {AT} serve 1 -- started", f"\x1b[36m{REPLICA}\x1b[0m ERROR {AT} a b -- broken \xff"
    _printed(f"{noise}\n{error}\n".encode("latin-1"), tmp_path / "printed.log")
    kept = (tmp_path / "printed.log").read_text()
    assert kept.splitlines()[0] == noise
    assert "\x1b" not in kept
    assert capsys.readouterr().err == kept.splitlines()[1] + "\n"
    assert (tmp_path / "printed.log").stat().st_mode & 0o077 == 0


def test_that_no_replica_can_be_placed_is_said_once_in_plain_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A replica that cannot be placed is reported once, in plain words.

    Serve's own warnings, every 30 s, go only to the file.
    """
    warning = (
        f"(ServeController pid=1) WARNING {AT} controller 1 -- Deployment 'Model' in application 'darkroom' has 1 "
        "replicas that have taken more than 30s to be scheduled. This may be due to waiting for the cluster to "
        "auto-scale or for a runtime environment to be installed. Resources required for each replica: {'GPU': 1.0}, "
        "total resources available: {}. Use `ray status` for more details."
    )
    _printed(f"{warning}\n".encode() * 3, tmp_path / "printed.log")
    (shown,) = capsys.readouterr().err.splitlines()
    assert shown.startswith("darkroom: no replica of application darkroom can be placed: each needs 1 GPU")
    assert (tmp_path / "printed.log").read_text().splitlines() == [warning] * 3


def test_the_file_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of all output has a bounded size: one more file holds the older output, and endless lines are cut."""
    monkeypatch.setattr(console, "FILE_BYTES", 10_000)
    _printed(f"INFO {AT} serve 1 -- {'x' * 500}\n".encode() * 200 + b"y" * 100_000, tmp_path / "printed.log")
    assert {path.name for path in tmp_path.iterdir()} == {"printed.log", "printed.log.1"}
    assert all(path.stat().st_size < 70_000 for path in tmp_path.iterdir())


def test_a_storm_of_errors_does_not_flood_the_console(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _printed(b"Traceback\n" * 5000, tmp_path / "printed.log")
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == console.LINES_SHOWN
    assert f"the next ones are in {tmp_path / 'printed.log'} alone" in shown[-1]
    assert len((tmp_path / "printed.log").read_text().splitlines()) == 5000


def test_a_full_disk_stops_neither_reading_nor_showing(capsys: pytest.CaptureFixture[str]) -> None:
    """A full disk stops neither reading nor showing.

    Otherwise the pipe would fill and block every process that prints.
    """
    _printed(b"it broke\n" * 3 + b"x" * 200_000, Path("/dev/full"))
    assert "it broke" in capsys.readouterr().err


def test_a_muted_console_shows_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    printed = Printed(os.fdopen(reader, "rb"), tmp_path / "printed.log", WaitingReplicas(dict))
    printed.mute()
    printed.start()
    os.write(writer, b"(raylet) a worker died\n")
    os.close(writer)
    printed.join(30)
    assert capsys.readouterr().err == ""
    assert "a worker died" in (tmp_path / "printed.log").read_text()


def test_nobody_has_to_read_the_console(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed console is no error, whether the shell closed it (`>&-`) or its reader has gone (`| head -1`)."""
    monkeypatch.setattr("sys.stdout", None)
    say("started")
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    monkeypatch.setattr("sys.stdout", stream)
    say("started")
    with contextlib.suppress(BrokenPipeError):
        stream.close()


def test_the_announcement_says_what_where_how_and_where_the_logs_are(tmp_path: Path) -> None:
    info = {"model": "resnet50", "weights_from": "V2", "device": "cuda", "decode_workers": 7}
    text = announcement(_ready(info), tmp_path / "logs", tmp_path / "printed.log")
    assert text.startswith("Darkroom answers at http://127.0.0.1:8000 until Ctrl-C.\n")
    assert "resnet50 with weights from V2 on cuda with 7 decoding workers in each replica" in text
    assert "curl -F image=@examples/chelsea.jpg http://127.0.0.1:8000/predict" in text
    assert str(tmp_path / "logs") in text
    assert str(tmp_path / "printed.log") in text


def test_the_announcement_says_that_no_gpu_was_found(tmp_path: Path) -> None:
    info = {"model": "resnet50", "device": "cpu", "warnings": [f"{NO_GPU} of the cluster (1 alive), so ..."]}
    assert "resnet50 on cpu (no GPU was found)" in announcement(_ready(info), tmp_path, tmp_path)
    assert "(no GPU" not in announcement(_ready(info | {"warnings": []}), tmp_path, tmp_path)


def test_whoever_needs_a_key_is_told_how_to_show_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If keys are needed, the announcement shows how to send one, and names no example file that is not there."""
    monkeypatch.chdir(tmp_path)
    text = announcement(_ready(None), tmp_path, tmp_path)
    assert "curl -H 'Authorization: Bearer KEY' -F image=@photo.jpg" in text


def test_the_announcement_names_each_application_and_its_path(tmp_path: Path) -> None:
    """With several applications, the announcement has a line for each that answers and for each that has failed."""
    text = announcement(_ready({"model": "a:build", "weights_from": "a:build"}, {}, failed="birds"), tmp_path, tmp_path)
    assert text.startswith("Darkroom answers at http://127.0.0.1:8000 until Ctrl-C.\n")
    assert "  serves  /models/0  a:build\n          /models/1  an application that is not Darkroom\n" in text
    assert "  failed  birds, for the reason above\n" in text
    assert "chelsea.jpg http://127.0.0.1:8000/models/0/predict" in text
