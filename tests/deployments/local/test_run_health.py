"""Tests of the signs that a run has ended or hangs: its node by gRPC, its service by HTTP, its controller by Serve."""

import itertools
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from deployments.local import application_health
from deployments.local import run_health as health
from deployments.local.application_health import ServicePort
from deployments.local.endpoint import Endpoint
from deployments.local.machine import name_run
from deployments.local.run_health import Health, RayNode, _works
from deployments.local.serve_api import ServeApi, ServeApiError
from deployments.local.silence import Silence
from harness.ports import free_port
from tests.support.waiting import PATIENCE_S, until

PROCESS = """
import grpc, sys
from concurrent.futures import ThreadPoolExecutor
def check(request, context):
    return b"\\x08\\x01"
server = grpc.server(ThreadPoolExecutor(1))
handler = grpc.unary_unary_rpc_method_handler(check)
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler})])
server.add_insecure_port("127.0.0.1:0")
server.start()
print("listening", flush=True)
server.wait_for_termination()
"""


@contextmanager
def _pretender(folder: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process of this name that reports its health as Ray's processes do."""
    (folder / name).symlink_to(os.path.realpath(sys.executable))
    environment = {"PYTHONPATH": sysconfig.get_path("purelib"), "DARKROOM_RUN": name_run(), "PATH": os.environ["PATH"]}
    command = [str(folder / name), "-c", PROCESS]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("name", ["gcs_server", "raylet"])
@pytest.mark.parametrize(
    ("number", "limit", "says"),
    [
        (signal.SIGKILL, "NODE_SILENCE_S", "has ended"),
        (signal.SIGSTOP, "NODE_STOPPED_S", "has been stopped for"),
        (signal.SIGSTOP, "NODE_SILENCE_S", "has not answered for"),
    ],
)
def test_a_node_that_ends_or_hangs_is_noticed(
    name: str, number: signal.Signals, limit: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process of Ray's node that ends or hangs is reported with name and pid.

    One that has never answered is starting.
    """
    monkeypatch.setattr(health, limit, 0.5)
    monkeypatch.setattr(health, "ANSWER_TIMEOUT_S", 0.2)
    node = RayNode(name_run())
    assert node.fault() is None
    with _pretender(tmp_path, name) as process:
        until(lambda: node.fault() is None and name in node._ports)
        process.send_signal(number)
        assert f"Ray's {name} (pid {process.pid}) {says}" in str(until(node.fault))


def test_an_error_while_checking_does_not_end_the_checks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A process that ends while it is looked at, for example, is told once, and the checks go on."""
    calls = itertools.count()

    def fault(_: RayNode) -> str:
        if next(calls) < 2:
            raise FileNotFoundError("/proc/1/net")
        return "Ray's raylet has ended"

    monkeypatch.setattr(RayNode, "fault", fault)
    monkeypatch.setattr(health, "SERVICE_CHECK_PERIOD_S", 0.01)
    checks = Health(name_run(), {})
    checks.start()
    checks.join(PATIENCE_S)
    assert checks.fault == "Ray's raylet has ended"
    assert capsys.readouterr().err.count("could not be checked, and is checked again: FileNotFoundError") == 1


def test_silence_is_counted_from_an_answer_on(monkeypatch: pytest.MonkeyPatch) -> None:
    now, silence = [100.0], Silence()
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    assert silence.note(False) == 0.0
    now[0] = 200.0
    assert silence.note(False) == 0.0
    assert silence.note(True) == 0.0
    now[0] = 207.0
    assert silence.note(False) == 7.0
    assert silence.note(True) == 0.0


def _named(port: ServicePort) -> str:
    return port._url.split("/")[-2]


class _Watched:
    """A health check whose clock, service and Serve are set by the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.answers, self.refused, self.status = 1000.0, {"cats": True}, False, "RUNNING"
        monkeypatch.setattr("time.monotonic", lambda: self.now)  # first, as the machine may have been started just now
        self.health = Health(name_run(), {})
        monkeypatch.setattr(ServicePort, "info", lambda port: object() if self.answers[_named(port)] else None)
        monkeypatch.setattr(ServeApi, "applications", self._applications)
        monkeypatch.setattr(ServeApi, "dashboard_answers", lambda _: True)

    def _applications(self, _: object = None) -> dict[str, dict[str, str]]:
        if not self.status:
            raise ServeApiError("Ray's dashboard does not answer")
        return {name: {"status": self.status} for name in self.answers}

    def ready(self, *applications: str) -> None:
        """Make these applications ready; until then, none is checked."""
        self.answers = dict.fromkeys(applications, True)
        port = free_port()
        self.health.service_is_ready([Endpoint("127.0.0.1", port, f"/{name}", name) for name in applications])

    def after(self, seconds: float) -> str | None:
        """Return the fault that is found after this many seconds more."""
        self.now += seconds
        for each in self.health._applications:
            each.port.refused = self.refused
        return self.health._service_fault()


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> _Watched:
    """Return a service that answers at the first check."""
    watched = _Watched(monkeypatch)
    watched.ready("cats")
    assert watched.after(0.0) is None
    return watched


def test_a_service_that_is_silent_is_said_once_and_again_when_it_answers(
    watched: _Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    """A silent service is reported once, and once more when it answers again.

    A short silence, as during a restart, is not reported.
    """
    watched.answers["cats"], watched.status = False, "DEPLOYING"
    watched.after(application_health.SERVICE_SILENCE_S - 1)
    assert capsys.readouterr().err == ""
    watched.after(2.0)
    watched.after(2.0)
    assert capsys.readouterr().err.count("has not answered for 16 s; Serve says: DEPLOYING") == 1
    watched.answers["cats"] = True
    watched.after(1.0)
    assert "the service answers again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "refused", "ends"),
    [("RUNNING", False, False), ("RUNNING", True, True), ("DEPLOYING", False, True), ("", False, True)],
)
def test_a_service_that_stays_silent_is_given_up_unless_it_is_busy(
    status: str, refused: bool, ends: bool, watched: _Watched
) -> None:
    """A service that stays silent is ended, unless clients keep it busy.

    It is busy if Serve reports it healthy and its port accepts connections.
    """
    watched.answers["cats"], watched.status, watched.refused = False, status, refused
    assert watched.after(health.GIVEN_UP_AFTER_S - 1) is None
    assert (watched.after(2.0) is not None) is ends


def test_one_silent_application_is_named_and_does_not_end_the_others(
    watched: _Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    """A silent application is reported by name. The run ends only when every application has been silent too long."""
    watched.ready("cats", "birds")
    watched.answers["birds"], watched.status = False, "DEPLOYING"
    for _ in range(3):
        assert watched.after(health.GIVEN_UP_AFTER_S) is None
    assert capsys.readouterr().err == "darkroom: application birds has not answered for 120 s; Serve says: DEPLOYING\n"
    watched.answers["cats"] = False
    assert watched.after(health.GIVEN_UP_AFTER_S - 1) is None
    assert watched.after(2.0) == "the service has not answered for 121 s"


@pytest.mark.parametrize("stopped", [True, False])
def test_a_controller_that_hangs_is_killed(
    stopped: bool, watched: _Watched, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A controller that is stopped or does not answer is killed, and Ray starts another."""
    with _pretender(tmp_path, "ServeController") as process:
        watched.ready("cats")  # from here on a controller may be found hanging
        if stopped:
            process.send_signal(signal.SIGSTOP)
            until(lambda: not _works(psutil.Process(process.pid)))
        else:
            watched.status = ""
        for _ in range(2):
            assert process.poll() is None
            watched.now += health.CONTROLLER_CHECK_PERIOD_S
            watched.health._mend_controller()
        assert process.wait(10) == -signal.SIGKILL
    assert f"controller (pid {process.pid}) has hung for 10 s, and is replaced" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_helper_that_is_missed_is_said_once(
    number: signal.Signals, watched: _Watched, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing helper process is reported once with its purpose, without a restart, because it answers no request."""
    with _pretender(tmp_path, "log_monitor.py") as process:
        watched.ready("cats")
        watched.health._miss_helpers()
        assert capsys.readouterr().err == ""
        process.send_signal(number)
        until(lambda: not _works(psutil.Process(process.pid)))
        watched.health._miss_helpers()
        watched.health._miss_helpers()
    said = capsys.readouterr().err
    assert said.count("log_monitor.py (pid") == 1
    assert "errors of replicas are not shown here any more" in said
