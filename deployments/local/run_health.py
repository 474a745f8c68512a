"""The health of a run: Ray's node, the service's port, Serve's controller, and helper processes.

Ray restarts actors (replicas, controller, HAProxy's manager), but not the processes below them: if gcs_server or raylet
ends or hangs, the run is over, and `serve run` neither ends nor prints anything.
"""

import contextlib
import threading
import time
from collections.abc import Mapping
from typing import Final

import grpc
import httpx
import psutil

from deployments.local.console import complain
from deployments.local.endpoint import Endpoint
from deployments.local.machine import is_alive, leftovers
from deployments.local.serve_api import ServeApi, ServeApiError

SERVICE_CHECK_PERIOD_S: Final = 1.0
CONTROLLER_CHECK_PERIOD_S: Final = 5.0
ANSWER_TIMEOUT_S: Final = 2.0

NODE_SILENCE_S: Final = 7.0
"""Silence after which a process of Ray that has answered before counts as hung; it is asked three times meanwhile."""

SERVICE_TIMEOUT_S: Final = 3.0
CONTROLLER_SILENCE_S: Final = 8.0
CONTROLLERS_REPLACED: Final = 3
"""Limit on replaced controllers: if none of them answers, the fault is elsewhere."""

SERVICE_SILENCE_S: Final = 15.0
"""Silence of the service that is reported; Serve needs less than half of it to replace HAProxy or a replica."""

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


class Silence:
    """Time since the last answer of a process or service."""

    def __init__(self) -> None:
        self._answered_at: float | None = None

    def note(self, answered: bool) -> float:
        """Note an answer or a missing one; return the seconds since the last answer, 0 before the first."""
        now = time.monotonic()
        if answered:
            self._answered_at = now
        return 0.0 if self._answered_at is None else now - self._answered_at


class RayNode:
    """The processes gcs_server and raylet of a run."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._found = dict[str, psutil.Process]()
        self._ports = dict[str, int]()
        self._silences = {name: Silence() for name in NODE_PROCESSES}

    def fault(self) -> str | None:
        """Describe a process that has ended or hangs; None if both are well or have not started yet."""
        if len(self._found) < len(NODE_PROCESSES):
            self._found |= {
                name: process for process in leftovers(self._run) if (name := _name(process)) in NODE_PROCESSES
            }
        for name, process in self._found.items():
            if not is_alive(process):
                return f"Ray's {name} (pid {process.pid}) has ended"
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


class ServicePort:
    """The service as a client sees it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._url, self.refused = f"{endpoint.url}/info", False
        self._client = httpx.Client(timeout=SERVICE_TIMEOUT_S, trust_env=False, headers={"Connection": "close"})

    def info(self) -> httpx.Response | None:
        """Return the answer of GET /info; None if Serve answers 404 or 503 in its place, or nothing answers.

        An application that asks for a key (401) is ready too: Serve itself never asks for one.
        """
        try:
            response = self._client.get(self._url)
        except httpx.TransportError as error:
            self.refused = isinstance(error, httpx.ConnectError)
            return None
        self.refused = False
        ready = (httpx.codes.OK, httpx.codes.UNAUTHORIZED, httpx.codes.TOO_MANY_REQUESTS)
        return response if response.status_code in ready else None


class Health(threading.Thread):
    """Checks a run periodically from its start on; reports failures and recoveries on the console.

    Args:
        run: name of the run.
        endpoint: address of the service.
        environment: environment variables of the run.
    """

    def __init__(self, run: str, endpoint: Endpoint, environment: Mapping[str, str]) -> None:
        super().__init__(name="health", daemon=True)
        self.fault: str | None = None
        self._run, self._over, self._ready = run, threading.Event(), threading.Event()
        self._began_at, self._patience_s = time.monotonic(), GIVEN_UP_AFTER_S
        self._node, self._service, self._api = RayNode(run), ServicePort(endpoint), ServeApi(run, environment)
        self._service_silence, self._controller_silence = Silence(), Silence()
        self._said_silent, self._controller_asked_at = False, 0.0
        self._helpers = dict[str, psutil.Process]()
        self._missed = set[str]()
        self._controller: psutil.Process | None = None
        self._replaced = 0

    def service_is_ready(self) -> None:
        """Begin to check the service too, not only Ray's node."""
        self._patience_s = max(GIVEN_UP_AFTER_S, 3 * (time.monotonic() - self._began_at))
        self._helpers = self._find_helpers()
        self._service_silence.note(True)
        self._controller_silence.note(True)  # without it the service would not be ready
        self._ready.set()

    def close(self) -> None:
        """Stop the checks; does not wait for a check in progress."""
        self._over.set()

    def run(self) -> None:
        """Check until closed, or until a fault is found."""
        while not self._over.wait(SERVICE_CHECK_PERIOD_S) and self.fault is None:
            self.fault = self._node.fault()
            if self._ready.is_set() and self.fault is None and not self._over.is_set():
                self.fault = self._service_fault()
                self._mend_controller()
                self._miss_helpers()

    def _say(self, text: str) -> None:
        if not self._over.is_set():
            complain(f"darkroom: {text}")

    def _service_fault(self) -> str | None:
        silent_s = self._service_silence.note(self._service.info() is not None)
        if silent_s == 0.0 and self._said_silent:
            self._said_silent = False
            self._say("the service answers again")
        if silent_s > SERVICE_SILENCE_S and not self._said_silent:
            self._said_silent = True
            self._say(f"the service has not answered for {silent_s:.0f} s; Serve says: {self._says_serve()}")
        if silent_s < self._patience_s or (self._says_serve() == "RUNNING" and not self._service.refused):
            return None  # a busy service answers late: a restart would make it worse
        return f"the service has not answered for {silent_s:.0f} s"

    def _says_serve(self) -> str:
        try:
            return ", ".join(application["status"] for application in self._api.applications().values())
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
