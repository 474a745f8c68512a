"""A Ray cluster of several machines, imitated on one, with Darkroom deployed on it by Ray's own commands."""

import json
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

import httpx
import yaml

from deployments.local.env_file import read_env
from harness.local_service import Document
from harness.machines import Machine, Machines
from harness.repository import ROOT
from harness.target import Target, image_body

DASHBOARD_PORT: Final = 8265
GCS_PORT: Final = 6379
HTTP_PORT: Final = 8000

DRAINING_S: Final = 5
"""Seconds for which a stopping replica answers: balancers on other nodes notice within one or two."""

SERVE: Final = str(Path(sys.executable).with_name("serve"))
"""The command `serve`."""

_CONFIG: Final = "/tmp/serve_config.yaml"  # noqa: S108  the head's own
_OBJECT_STORE_BYTES: Final = 100_000_000
_ENDS_OF_LOGS: Final = "cd /tmp/ray/session_latest/logs && tail -n 6 raylet.out serve/*.log worker*.err"
_STARTS_WITHIN_S: Final = 120.0
_POLL_INTERVAL_S: Final = 0.2
_RAY: Final = str(Path(sys.executable).with_name("ray"))


class ClusterFailed(Exception):
    """A command on the cluster failed, or a state was not reached in time; the message has the output."""


class RayCluster:
    """A cluster: a head without replicas, nodes that are added, and a machine for clients.

    The constructor starts the head and waits for it. Used as a context manager, which ends everything.

    Args:
        logs: folder for the output of Ray's commands.
        environment: environment variables of all nodes, in addition to those of serve.env.
        redis_port: port of a Redis, on a machine of its own, that keeps the state of the head; None for no Redis.
        options: more options for `ray start`, the same on all nodes.
        prepare: called for each machine before Ray starts on it.

    Attributes:
        head: the machine of the head.
        nodes: the other machines, by name.
        clients: the machine of the clients.
    """

    def __init__(
        self,
        logs: Path,
        environment: Mapping[str, str] | None = None,
        redis_port: int | None = None,
        options: Sequence[str] = (),
        prepare: Callable[[Machine], None] = lambda _: None,
    ) -> None:
        self._logs, self._machines, self._options, self._prepare = logs, Machines(), options, prepare
        self.environment = {
            **read_env(ROOT / "serve.env"),
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(DRAINING_S),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            **(environment or {}),
        }
        self.nodes: dict[str, Machine] = {}
        try:
            self.head, self.clients = self._machines.add("head"), self._machines.add("clients")
            if redis_port:
                self._start_redis(redis_port)
            self.start_head()
        except BaseException:
            self._machines.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._machines.close()

    # ---- nodes ------------------------------------------------------------------------------------------------------

    def start_head(self) -> None:
        """Start Ray's head on its machine; return when it takes nodes."""
        self._start(self.head, 0, "--head", f"--port={GCS_PORT}", f"--dashboard-port={DASHBOARD_PORT}")
        self.wait_until(lambda: self._ask("GET", "/api/version") is not None, "the dashboard answers")

    def stop_head(self) -> None:
        """Kill all processes of the head."""
        self.head.kill_processes()

    def add(self, name: str, cpus: int, gpus: int = 0) -> Machine:
        """Start a machine with a node on it; return when the node has joined."""
        machine = self._machines.add(name)
        self.join(machine, cpus, gpus)
        self.nodes[name] = machine
        return machine

    def join(self, machine: Machine, cpus: int, gpus: int = 0) -> None:
        """Start Ray on a machine, and wait until the head lists its node."""
        self._start(machine, cpus, f"--address={self.head.address}:{GCS_PORT}", f"--num-gpus={gpus}")
        self.wait_until(lambda: machine.address in self.alive(), f"node {machine.name} has joined")

    def alive(self) -> dict[str, str]:
        """Return the ids of the nodes that the head takes for alive, by address."""
        answer = self._ask("GET", "/api/v0/nodes")
        nodes = answer["data"]["result"]["result"] if answer else []
        return {node["node_ip"]: node["node_id"] for node in nodes if node["state"] == "ALIVE"}

    def ray(self, *arguments: str, timeout_s: float = 120.0) -> str:
        """Run a command of Ray on the head; return its output.

        Raises:
            ClusterFailed: the command failed.
        """
        return self._command(_RAY, *arguments, timeout_s=timeout_s)

    def _start(self, machine: Machine, cpus: int, *options: str) -> None:
        command = [_RAY, "start", "--block", f"--node-ip-address={machine.address}", f"--num-cpus={cpus}"]
        command += [f"--object-store-memory={_OBJECT_STORE_BYTES}", *self._options, *options]
        self._prepare(machine)
        with (self._logs / f"{machine.name}.txt").open("ab") as sink:
            machine.start(command, self.environment, sink)

    def _start_redis(self, port: int) -> None:
        machine = self._machines.add("redis")
        command = ["redis-server", "--port", str(port), "--bind", machine.address, "--protected-mode", "no"]
        with (self._logs / "redis.txt").open("ab") as sink:
            machine.start([*command, "--save", "", "--dir", "/tmp"], {}, sink)  # noqa: S108  the machine's own
        self.environment["RAY_REDIS_ADDRESS"] = f"{machine.address}:{port}"

    # ---- the service ------------------------------------------------------------------------------------------------

    def deploy(self, document: Document) -> None:
        """Deploy a configuration, as `serve deploy` does; return before it is in force.

        Raises:
            ClusterFailed: it was not accepted.
        """
        self._command("tee", _CONFIG, stdin=yaml.safe_dump(document))
        self._command(SERVE, "deploy", _CONFIG)

    def replicas(self, application: str = "darkroom") -> list[dict[str, Any]]:
        """Return the replicas of an application, as Serve describes them: `replica_id`, `state`, `node_ip` and more."""
        answer = self._ask("GET", "/api/serve/applications/") or {"applications": {}}
        deployments = answer["applications"].get(application, {}).get("deployments", {})
        return [replica for deployment in deployments.values() for replica in deployment["replicas"]]

    def running(self) -> list[dict[str, Any]]:
        """Return the replicas that answer requests."""
        return [replica for replica in self.replicas() if replica["state"] == "RUNNING"]

    def wait_for_replicas(self, number: int, within_s: float = 180.0) -> None:
        """Wait until exactly this many replicas run and none is starting or stopping.

        Raises:
            ClusterFailed: they do not in time.
        """
        self.wait_until(
            lambda: [replica["state"] for replica in self.replicas()] == ["RUNNING"] * number,
            f"{number} replicas run",
            within_s,
        )

    def target(self, machine: Machine) -> Target:
        """Return the address that takes one image as the body of a request, at the balancer of a machine."""
        return Target(machine.address, HTTP_PORT, "/predict", image_body)

    def wait_until_it_answers(self, machine: Machine, within_s: float = 60.0) -> None:
        """Wait until the balancer of a machine has an answer for clients.

        Raises:
            ClusterFailed: it has none in time.
        """
        self.wait_until(lambda: self._is_ready(machine), f"{machine.name} answers", within_s)

    def wait_until(self, holds: Callable[[], bool], what: str, within_s: float = _STARTS_WITHIN_S) -> None:
        """Wait until a condition holds.

        Raises:
            ClusterFailed: it does not in time; the message has the replicas and the ends of all outputs.
        """
        until = time.monotonic() + within_s
        while not holds():
            if time.monotonic() > until:
                states = [(replica["state"], replica.get("node_ip")) for replica in self.replicas()]
                timeout = f"timeout after {within_s:g} s, waiting for: {what}; replicas {states}"
                raise ClusterFailed("\n".join([timeout, *self._logged()]))
            time.sleep(_POLL_INTERVAL_S)

    def _logged(self) -> Iterator[str]:
        """Yield the ends of the logs of all nodes that are on."""
        for machine in (self.head, *self.nodes.values()):
            if machine.is_running:
                yield f"{machine.name}:\n{machine.run(['sh', '-c', _ENDS_OF_LOGS], {}).stdout}"

    def _is_ready(self, machine: Machine) -> bool:
        with self.clients.network(), suppress(httpx.HTTPError):
            url = f"http://{machine.address}:{HTTP_PORT}/healthz"
            return httpx.get(url, timeout=2.0, trust_env=False).is_success
        return False

    def _command(self, *command: str, stdin: str = "", timeout_s: float = 120.0) -> str:
        done = self.head.run(command, self.environment, stdin=stdin, timeout_s=timeout_s)
        if done.returncode:
            raise ClusterFailed(f"{' '.join(command)}: {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def _ask(self, method: str, path: str) -> Any:
        """Ask the dashboard; None if it does not answer."""
        headers = {"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"}
        with self.head.network(), suppress(httpx.HTTPError, json.JSONDecodeError):
            answer = httpx.request(
                method, f"http://127.0.0.1:{DASHBOARD_PORT}{path}", headers=headers, timeout=5.0, trust_env=False
            )
            return answer.json() if answer.is_success else None
        return None
