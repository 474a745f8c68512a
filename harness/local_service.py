"""A private service: started by the launcher like `make serve`, changed while it runs, and ended."""

import copy
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
import yaml

from deployments.local.endpoint import read_endpoint
from deployments.local.machine import leftovers, start_ticks
from deployments.local.serve_api import ServeApi, ServeApiError
from harness.ports import apart, free_port
from harness.repository import ROOT
from harness.target import Target, image_body

_START_TIMEOUT_S: Final = 300.0
_STOP_TIMEOUT_S: Final = 60.0
_POLL_INTERVAL_S: Final = 0.1
_DEPLOY_TIMEOUT_S: Final = 30.0
_RELOAD_TIME_S: Final = 1.0
"""Seconds after a deployment in which HAProxy may reload and close its connections."""

Document = dict[str, Any]


class ServiceFailed(Exception):
    """The service did not start, or did not accept a change; the message holds its output."""


class LocalService:
    """A running service. The constructor waits until the service answers.

    Args:
        folder: folder for its configuration and its output.
        document: configuration of the service.
        environment: environment variables, in addition to those of this process.
        prefix: words in front of the launcher's command line. Without them the service ends with this process, however
            this process ends; with them the launcher may not be its child.

    Raises:
        ServiceFailed: the service did not start.
    """

    def __init__(
        self, folder: Path, document: Document, environment: Mapping[str, str], prefix: Sequence[str] = ()
    ) -> None:
        self.document, self.output, self.path = document, folder / "output.txt", folder / "serve_config.yaml"
        self.path.write_text(yaml.safe_dump(document))
        self.endpoint = read_endpoint(self.path)
        self.environment = {**os.environ, **environment}
        command = [sys.executable, "-m", "deployments.local.launcher", str(self.path)]
        if not prefix:
            command += ["--parent", str(os.getpid())]
        with self.output.open("wb") as sink:
            # A session of its own: Ctrl-C in the terminal ends the measuring process, which then ends the service.
            self._launcher = subprocess.Popen(
                [*prefix, *command],
                env=self.environment,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid, self._interrupted = self._launcher.pid, False
        self.run = f"{self.pid}-{start_ticks(self.pid)}"
        self._api = ServeApi(self.run, self.environment)
        try:
            self._wait_until_it_answers()
        except BaseException:  # also on Ctrl-C, which does not reach the service's session
            self.stop()
            raise

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while "Darkroom answers at" not in (printed := self.output.read_text(errors="replace")):
            if self._launcher.poll() is not None or time.monotonic() > deadline:
                raise ServiceFailed(f"the service did not start:\n{printed}")
            time.sleep(_POLL_INTERVAL_S)

    def printed(self) -> str:
        """All output of the service's processes; the console, `output`, has only warnings and errors."""
        told = re.search(r"own lines go to (\S+)", self.output.read_text(errors="replace"))
        return Path(told[1]).read_text(errors="replace") if told else ""

    @property
    def user_config(self) -> Document:
        """The settings that can be changed live, as written in the configuration."""
        (deployment,) = self.document["applications"][0]["deployments"]
        user_config: Document = deployment["user_config"]
        return user_config

    @property
    def target(self) -> Target:
        """The address that takes one image as the body of a request."""
        path = f"{self.endpoint.route_prefix.rstrip('/')}/predict"
        return Target(self.endpoint.host, self.endpoint.port, path, image_body)

    def processes(self) -> list[psutil.Process]:
        """Return the processes of the service."""
        return leftovers(self.run)

    def apply(self, **user_config: Any) -> None:
        """Change settings of `user_config`, and wait until they are in force.

        Raises:
            ServiceFailed: the settings were not accepted.
            TimeoutError: the settings are not in force in time.
        """
        self.user_config.update(user_config)
        self.deploy(self.document)
        deadline = time.monotonic() + _DEPLOY_TIMEOUT_S
        while not self._in_force(user_config):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{user_config} is not in force after {_DEPLOY_TIMEOUT_S:.0f} s")
            time.sleep(_POLL_INTERVAL_S)
        time.sleep(_RELOAD_TIME_S)

    def _in_force(self, user_config: Mapping[str, Any]) -> bool:
        try:
            return bool(user_config.items() <= self.info()["user_config"].items())
        except httpx.HTTPError:
            return False

    def deploy(self, document: Document) -> None:
        """Deploy another configuration; do not wait until it is in force.

        Raises:
            ServiceFailed: the configuration was not accepted.
        """
        try:
            self._api.deploy(document)
        except ServeApiError as error:
            raise ServiceFailed(f"the service does not take other settings: {error}") from error

    def wait_for_replicas(self, count: int, within_s: float) -> None:
        """Wait until exactly `count` replicas run; the launcher itself waits only for the first one.

        Raises:
            ServiceFailed: the replicas do not run in time, or Serve has given up.
        """
        deadline, applications = time.monotonic() + within_s, dict[str, Any]()
        while time.monotonic() < deadline and not _given_up(applications):
            with suppress(ServeApiError):
                applications = self._api.applications()
                if _running(applications) == count:
                    return
            time.sleep(_POLL_INTERVAL_S)
        told = "; ".join(f"{each['status']} {each.get('message', '')}" for each in applications.values())
        raise ServiceFailed(f"{_running(applications)} of {count} replicas run after {within_s:.0f} s: {told}")

    def replica_states(self) -> list[str]:
        """Return the state of each replica, such as RUNNING or STARTING, as Serve names it.

        Raises:
            ServeApiError: Serve does not answer.
        """
        return _states(self._api.applications())

    def info(self) -> Document:
        """Return the document of GET /info."""
        response = httpx.get(f"{self.endpoint.url}/info", timeout=30, trust_env=False, headers={"Connection": "close"})
        document: Document = response.raise_for_status().json()
        return document

    def interrupt(self) -> None:
        """Send SIGINT once, like Ctrl-C; do not wait."""
        if not self._interrupted and self._launcher.poll() is None:
            self._launcher.send_signal(signal.SIGINT)  # a second one would end it at once
        self._interrupted = True

    def end(self, within_s: float) -> int:
        """Send SIGINT and wait; kill a launcher that has not ended in time. Return its exit status."""
        self.interrupt()
        try:
            return self._launcher.wait(within_s)
        except subprocess.TimeoutExpired:
            self._launcher.kill()
            return self._launcher.wait()

    def stop(self) -> list[str]:
        """Send SIGINT; return one line for each process that had to be killed or is left. May be called again."""
        status = self.end(_STOP_TIMEOUT_S)
        found = [f"the launcher ended with status {status}"] if status else []
        printed = self.output.read_text(errors="replace").splitlines()
        # Complaints about killed or restarted processes; a slow replacement by Serve is not one of them.
        slow = ("the service has not answered for", "the service answers again")
        told = [line for line in printed if line.startswith("darkroom: ")]
        found += [line for line in told if not line.removeprefix("darkroom: ").startswith(slow)]
        found += [f"left running: {_described(process)}" for process in leftovers(self.run)]
        return found


@contextmanager
def local_service(document: Document, say: Callable[[str], None], **environment: str) -> Iterator[LocalService]:
    """Start a service on free ports, beside any other one; end it after the block.

    Args:
        document: configuration of the service; its port is replaced.
        say: called with a line for each process that did not end cleanly.
        environment: environment variables, in addition to those of this process.
    """
    document = copy.deepcopy(document)
    document["http_options"]["port"] = free_port()
    with tempfile.TemporaryDirectory(prefix="darkroom-") as folder:
        service = LocalService(Path(folder), document, {**apart(), **environment})
        try:
            yield service
        finally:
            for line in service.stop():
                say(line)


def shipped_config(name: str = "serve_config.yaml") -> Document:
    """Read a configuration in the repository's root."""
    document: Document = yaml.safe_load((ROOT / name).read_text())
    return document


def one_replica() -> Document:
    """Read the shipped configuration without autoscaling, so that no replica starts during a measurement."""
    document = shipped_config()
    (deployment,) = document["applications"][0]["deployments"]
    deployment["autoscaling_config"]["max_replicas"] = 1
    return document


def _given_up(applications: Mapping[str, Any]) -> bool:
    return any(application["status"] == "DEPLOY_FAILED" for application in applications.values())


def _running(applications: Mapping[str, Any]) -> int:
    return _states(applications).count("RUNNING")


def _states(applications: Mapping[str, Any]) -> list[str]:
    deployments = [each for application in applications.values() for each in application["deployments"].values()]
    return [replica["state"] for deployment in deployments for replica in deployment["replicas"]]


def _described(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())[:200]}"
    except psutil.Error:
        return str(process.pid)
