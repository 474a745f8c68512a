"""The health of a run: Ray's node, the applications, Serve's controller, and helper processes.

Ray restarts actors (replicas, controller, HAProxy's manager), but not the processes below them: if gcs_server or raylet
ends or hangs, the run is over, and `serve run` neither ends nor prints anything.
"""

import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final

import grpc
import psutil

from deployments.local.application_health import ApplicationHealth
from deployments.local.console import complain
from deployments.local.endpoint import Endpoint
from deployments.local.machine import is_alive, leftovers
from deployments.local.serve_api import ServeApi, ServeApiError
from deployments.local.silence import Silence
from pipeline.decode.process_state import StoppedProcess

SERVICE_CHECK_PERIOD_S: Final = 1.0
CONTROLLER_CHECK_PERIOD_S: Final = 5.0
ANSWER_TIMEOUT_S: Final = 2.0

NODE_SILENCE_S: Final = 7.0
"""Silence after which a process of Ray that has answered before counts as hung; it is asked three times meanwhile."""

NODE_STOPPED_S: Final = 3.0
"""Time after which a process of Ray that has been stopped (SIGSTOP) counts as hung."""

CONTROLLER_SILENCE_S: Final = 8.0
CONTROLLERS_REPLACED: Final = 3
"""Limit on replaced controllers: if none of them answers, the fault is elsewhere."""

GIVEN_UP_AFTER_S: Final = 120.0
"""Silence after which the service is restarted; or three times the duration of its start, if that is longer."""

NODE_PROCESSES: Final = ("gcs_server", "raylet")
HELPER_PROCESSES: Final = {
    "serve run": "errors of replicas are not shown here any more",
    "log_monitor.py": "errors of replicas are not shown here any more",
    "dashboard/dashboard.py": "`serve deploy` and `serve status` get no answer",
    "ray::DashboardAgent": "metrics stand still",
    "ray::RuntimeEnvAgent": "replicas cannot be replaced",
}
"""Helper processes, by a part of their command line, with the function that is lost without them."""


class RayNode:
    """The processes gcs_server and raylet of a run."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._found = dict[str, psutil.Process]()
        self._ports = dict[str, int]()
        self._silences = {name: Silence() for name in NODE_PROCESSES}
        self._states = {name: StoppedProcess() for name in NODE_PROCESSES}

    def fault(self) -> str | None:
        """Describe a process that has ended or hangs; None if both are well or have not started yet."""
        if len(self._found) < len(NODE_PROCESSES):
            self._found |= {
                name: process for process in leftovers(self._run) if (name := _name(process)) in NODE_PROCESSES
            }
        for name, process in self._found.items():
            if not is_alive(process):
                return f"Ray's {name} (pid {process.pid}) has ended"
            if (stopped_s := self._states[name].stopped_s(process.pid)) > NODE_STOPPED_S:
                return f"Ray's {name} (pid {process.pid}) has been stopped for {stopped_s:.0f} s"
            silent_s = self._silences[name].note(self._answers(name, process))
            if silent_s > NODE_SILENCE_S:
                return f"Ray's {name} (pid {process.pid}) has not answered for {silent_s:.0f} s"
        return None

    def _answers(self, name: str, process: psutil.Process) -> bool:
        """Ask the process by gRPC's health protocol, as gcs_server asks raylet."""
        if name in self._ports:
            return _is_serving(self._ports[name])
        with contextlib.suppress(psutil.Error):
            listening = [c for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
            for port in sorted(connection.laddr.port for connection in listening):
                if _is_serving(port):
                    self._ports[name] = port
                    return True
        return False


def _is_serving(port: int) -> bool:
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=ANSWER_TIMEOUT_S)
            return True
        except grpc.RpcError:
            return False


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""


class Health(threading.Thread):
    """Checks a run periodically from its start on; reports failures and recoveries on the console.

    Args:
        run: name of the run.
        environment: environment variables of the run.
    """

    def __init__(self, run: str, environment: Mapping[str, str]) -> None:
        super().__init__(name="health", daemon=True)
        self.fault: str | None = None
        self._run, self._over, self._ready = run, threading.Event(), threading.Event()
        self._began_at, self._patience_s = time.monotonic(), GIVEN_UP_AFTER_S
        self._node, self._api = RayNode(run), ServeApi(run, environment)
        self._applications: Sequence[ApplicationHealth] = ()
        self._controller_silence, self._controller_asked_at = Silence(), 0.0
        self._helpers = dict[str, psutil.Process]()
        self._missed = set[str]()
        self._controller: psutil.Process | None = None
        self._replaced = 0

    def service_is_ready(self, endpoints: Sequence[Endpoint]) -> None:
        """Begin to check the applications at these addresses too, not only Ray's node."""
        several = len(endpoints) > 1
        self._applications = [
            ApplicationHealth(each, f"application {each.application}" if several else "the service", self._say)
            for each in endpoints
        ]
        self._patience_s = max(GIVEN_UP_AFTER_S, 3 * (time.monotonic() - self._began_at))
        self._helpers = self._find_helpers()
        self._controller_silence.note(True)  # without it the service would not be ready
        self._ready.set()

    def close(self) -> None:
        """Stop the checks; do not wait for a check in progress."""
        self._over.set()

    def run(self) -> None:
        """Check until closed, or until a fault is found."""
        while not self._over.wait(SERVICE_CHECK_PERIOD_S) and self.fault is None:
            try:
                self._check()
            except Exception as error:  # noqa: BLE001  e.g. processes that end while they are listed
                self._say_once(f"the service could not be checked, and is checked again: {type(error).__name__}", error)

    def _check(self) -> None:
        self.fault = self._node.fault()
        if self._ready.is_set() and self.fault is None and not self._over.is_set():
            self.fault = self._service_fault()
            self._mend_controller()
            self._miss_helpers()

    def _say_once(self, text: str, error: Exception) -> None:
        if text not in self._missed:
            self._missed.add(text)
            self._say(f"{text}: {error}")

    def _say(self, text: str) -> None:
        if not self._over.is_set():
            complain(f"darkroom: {text}")

    def _service_fault(self) -> str | None:
        """Describe the silence of all applications; None while one of them answers, or is too busy to answer.

        Serve replaces the replicas of one silent application; a restart would take the other applications along.
        """
        for each in self._applications:
            each.check(lambda each=each: self._status_of(each))  # type: ignore[misc]  # mypy cannot infer it
        if not self._applications or any(
            each.silent_s < self._patience_s or self._is_busy(each) for each in self._applications
        ):
            return None
        silent_s = min((each.silent_s for each in self._applications), default=0.0)
        return f"the service has not answered for {silent_s:.0f} s"

    def _is_busy(self, application: ApplicationHealth) -> bool:
        """Return whether an application is healthy and answers late; a restart would make it worse."""
        return not application.port.refused and self._status_of(application) == "RUNNING"

    def _status_of(self, application: ApplicationHealth) -> str:
        try:
            return str(self._api.applications().get(application.application, {}).get("status", "it is not deployed"))
        except ServeApiError as error:
            return str(error)

    def _mend_controller(self) -> None:
        """Kill a hung controller: Ray starts another, and requests do not pass through it."""
        if time.monotonic() - self._controller_asked_at < CONTROLLER_CHECK_PERIOD_S:
            return
        self._controller_asked_at = time.monotonic()
        silent_s = self._controller_silence.note(self._controller_answers())
        if silent_s <= CONTROLLER_SILENCE_S or self._controller is None or self._replaced == CONTROLLERS_REPLACED:
            return
        self._say(f"Serve's controller (pid {self._controller.pid}) has hung for {silent_s:.0f} s, and is replaced")
        with contextlib.suppress(psutil.Error):
            self._controller.kill()
        self._controller_silence.note(True)
        self._replaced += 1

    def _controller_answers(self) -> bool:
        """Return False if the controller hangs: it is stopped by a signal, or silent while the dashboard answers."""
        if self._controller is None or not is_alive(self._controller):
            found = (process for process in leftovers(self._run) if "ServeController" in _name(process))
            self._controller = next(found, None)
        if self._controller is not None and not _works(self._controller):
            return False
        try:
            self._api.applications()
            return True
        except ServeApiError:
            return not self._api.dashboard_answers()

    def _find_helpers(self) -> dict[str, psutil.Process]:
        found = dict[str, psutil.Process]()
        for process in leftovers(self._run):
            with contextlib.suppress(psutil.Error):
                command = " ".join(process.cmdline())
                found |= {part: process for part in HELPER_PROCESSES if part in command and part not in found}
        return found

    def _miss_helpers(self) -> None:
        for part, process in self._helpers.items():
            missed = not _works(process)
            if missed and part not in self._missed:
                name = part.rpartition("/")[2].removeprefix("ray::")
                self._say(f"{name} (pid {process.pid}) has ended or is stopped, so {HELPER_PROCESSES[part]}")
            (self._missed.add if missed else self._missed.discard)(part)


def _works(process: psutil.Process) -> bool:
    try:
        return is_alive(process) and process.status() != psutil.STATUS_STOPPED
    except psutil.Error:
        return False
