"""Tests of killing or stopping Ray's own processes: the service goes on, or is restarted with a message."""

import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import psutil
import pytest

from deployments.local.machine import leftovers
from tests.support.tiny import Launched, tiny_service
from tests.support.waiting import until

NOTICED_WITHIN_S = 15.0

pytestmark = pytest.mark.slow


@dataclass
class Run:
    """A launched service, and its processes and output."""

    launched: Launched
    url: str

    def answers(self) -> bool:
        """Return whether the service answers now."""
        try:
            answer = httpx.get(f"{self.url}/info", timeout=2, trust_env=False, headers={"Connection": "close"})
            return answer.is_success
        except httpx.TransportError:
            return False

    def processes(self, part: str) -> list[psutil.Process]:
        """Return the processes with this text in their command lines, the oldest first."""
        found = [process for process in leftovers(self.launched.run) if re.search(part, _command(process))]
        return sorted(found, key=lambda process: process.create_time())

    def starts(self) -> int:
        """Return how often the service has become ready."""
        return self.launched.output.count("Darkroom answers")


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """One service for all tests of this file; each test leaves it answering."""
    tiny = tiny_service(tmp_path_factory.mktemp("ray"))
    with tiny.launch("--new-starts", "99") as launched:
        launched.wait_until_settled()
        yield Run(launched, f"http://127.0.0.1:{tiny.port}")
        launched.process.send_signal(signal.SIGINT)
        assert launched.process.wait(30) == 0
        assert leftovers(launched.run) == []


@pytest.mark.parametrize(
    ("part", "number", "cause"),
    [
        (r"gcs_server/?.* --", signal.SIGKILL, "gcs_server .* has ended"),
        (r"/raylet --", signal.SIGKILL, "raylet .* has ended"),
        ("ray::DashboardAgent", signal.SIGKILL, "raylet .* has ended"),
        ("ray::RuntimeEnvAgent", signal.SIGKILL, "raylet .* has ended"),
        ("serve run", signal.SIGKILL, "`serve run` has ended by itself, with status -9"),
        (r"gcs_server/?.* --", signal.SIGSTOP, "gcs_server .* has been stopped for"),
        (r"/raylet --", signal.SIGSTOP, "raylet .* has been stopped for"),
    ],
)
def test_what_the_node_hangs_on_is_started_anew(part: str, number: signal.Signals, cause: str, run: Run) -> None:
    """If a process that the node depends on fails, the run is restarted with a message within 15 s.

    Nothing old is left.
    """
    before, said, starts = leftovers(run.launched.run), len(run.launched.output), run.starts()
    until(lambda: run.processes(part))[0].send_signal(number)
    sent_at = time.monotonic()
    until(lambda: re.search(f"darkroom: .*{cause}", run.launched.output[said:]))
    assert time.monotonic() - sent_at < NOTICED_WITHIN_S
    until(lambda: run.starts() > starts)
    assert run.answers()
    assert [process for process in before if process.is_running()] == []


def test_the_controller_is_replaced_where_it_hangs(run: Run) -> None:
    """A hanging controller is replaced.

    Requests do not need it, but no replica and no HAProxy would be replaced without it.
    """
    starts, victim = run.starts(), until(lambda: run.processes("ray::ServeController"))[0]
    victim.suspend()
    until(lambda: not victim.is_running())
    until(lambda: run.processes("ray::ServeController"))
    assert run.answers()
    assert run.starts() == starts


@pytest.mark.parametrize(
    ("part", "number", "missed"),
    [
        ("log_monitor.py", signal.SIGKILL, "errors of replicas are not shown here any more"),
        ("ray::DashboardAgent", signal.SIGSTOP, "metrics stand still"),
        ("ray::RuntimeEnvAgent", signal.SIGSTOP, "replicas cannot be replaced"),
        ("dashboard/dashboard.py", signal.SIGKILL, "`serve deploy` and `serve status` get no answer"),
    ],
)
def test_a_helper_is_missed_and_the_service_goes_on(part: str, number: signal.Signals, missed: str, run: Run) -> None:
    """A failed helper process is reported and the service goes on; a stopped one does not keep the run from ending."""
    said, starts = len(run.launched.output), run.starts()
    until(lambda: run.processes(part))[0].send_signal(number)
    until(lambda: missed in run.launched.output[said:], timeout_s=NOTICED_WITHIN_S)
    assert run.answers()
    assert run.starts() == starts
