"""Starts Darkroom on this machine, says when it answers, and leaves no process behind; run by `make serve`.

`serve run` alone has four weaknesses: it starts although another process holds its ports, waits for ever for an
application that has failed, ends with status 0 after its own errors, and continues after the rest of Ray has ended.
`machine.py` finds the processes of a run, `run_health.py` notices that one of them has ended or hangs.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import httpx

from deployments.http.haproxy import HOST_VARIABLE
from deployments.local.console import announcement, complain, say
from deployments.local.disk_space import check_space, shared_memory_note
from deployments.local.endpoint import (
    Endpoint,
    StartError,
    asks_for_gpu,
    check_configuration,
    check_open_files,
    needed_ports,
    read_endpoint,
    read_env,
)
from deployments.local.loopback import loopback
from deployments.local.machine import name_run, obstacles
from deployments.local.ray_token import provide_token
from deployments.local.run_folder import PARENT_VARIABLE, RunFolder, create_run_folder
from deployments.local.run_health import Health, ServicePort
from deployments.local.serve_api import ServeApi, ServeApiError
from deployments.local.serve_run import POLL_INTERVAL_S, ServeRun
from deployments.local.stop_requests import StopRequests

READY_TIMEOUT_S = 600.0
STATUS_INTERVAL_S = 2.0
PATIENCE_S = 60.0

NEW_STARTS: Final = 3
NEW_STARTS_WITHIN_S: Final = 600.0
"""Window of `NEW_STARTS`: a run that fails more often within this time is not restarted."""


class RunEnded(Exception):
    """Ray or `serve run` has ended or hangs, so the service is down; the message says which one.

    Args:
        cause: the reason in one sentence.
        status: exit status for the launcher.

    Attributes:
        has_served: whether the service had answered before.
    """

    def __init__(self, cause: str, status: int) -> None:
        super().__init__(cause)
        self.status, self.has_served = status, False


def build_environment(run: str) -> dict[str, str]:
    """Return the environment of a run: serve.env, the caller's variables (which win), and the mark of its processes.

    Args:
        run: name of the run.
    """
    environment = read_env(Path("serve.env")) | dict(os.environ)
    environment["DARKROOM_RUN"] = run
    # Ray's processes write their title over their environment, which would hide the mark; this variable prevents it.
    environment["SPT_NOENV"] = "1"
    # Ray's default for its own cluster; set explicitly, so that another default never applies.
    environment.setdefault("RAY_AUTH_MODE", "token")
    return environment


def launch(config: Path, new_starts: int = NEW_STARTS) -> int:
    """Check the machine and the configuration, then serve until a signal comes; return the exit status.

    Args:
        config: configuration file for Serve.
        new_starts: limit on restarts within ten minutes after the service has ended by itself.

    Raises:
        StartError: a check has failed, or the application has failed or is not ready in time.
    """
    endpoint, run = read_endpoint(config), name_run()
    environment = build_environment(run)
    for place in {"/tmp", environment.get(PARENT_VARIABLE) or "/tmp"}:  # noqa: S108  only inspected
        check_space(Path(place))
    if note := shared_memory_note():
        say(note)
    check_configuration(config, environment)
    check_open_files(environment)
    if found := obstacles(needed_ports(endpoint, environment)):
        raise StartError(f"nothing was started.\n{found}")
    folder = create_run_folder(run, environment)
    environment |= {PARENT_VARIABLE: str(folder.path), HOST_VARIABLE: endpoint.host}
    environment |= provide_token(environment, folder.path)
    say(f"Starting {config}, which takes about half a minute. Ray's own lines go to {folder.printed}")
    try:
        return keep_serving(config, endpoint, environment, folder, new_starts)
    finally:
        folder.discard_all_but_logs()
        say(f"The logs of this run stay in {folder.path}")


def keep_serving(
    config: Path, endpoint: Endpoint, environment: Mapping[str, str], folder: RunFolder, new_starts: int
) -> int:
    """Serve until a signal comes, and restart the service when it has ended by itself; return the exit status.

    Raises:
        StartError: the application has failed or is not ready in time.
    """
    stop, ended_at = StopRequests(), list[float]()
    while True:
        try:
            # HAProxy's sockets are always in /tmp, not in TMPDIR: a socket path may have 107 bytes, and Ray adds 80.
            with tempfile.TemporaryDirectory(prefix="darkroom-", dir="/tmp", ignore_cleanup_errors=True) as sockets:
                serve(config, endpoint, loopback(Path(sockets), environment), folder, stop)
            return 0
        except RunEnded as end:
            now = time.monotonic()
            ended_at = [at for at in ended_at if now - at < NEW_STARTS_WITHIN_S]
            # A first start that fails would fail again.
            if len(ended_at) >= new_starts or not (ended_at or end.has_served):
                complain(f"darkroom: {end}")
                return end.status
            ended_at.append(now)
            complain(f"darkroom: {end}; starting anew ({len(ended_at)} of {new_starts} times)")


def serve(
    config: Path, endpoint: Endpoint, environment: Mapping[str, str], folder: RunFolder, stop: StopRequests
) -> None:
    """Run `serve run` until a signal comes.

    Raises:
        StartError: the application has failed or is not ready in time.
        RunEnded: `serve run` or Ray has ended by itself.
    """
    server, in_order, ready = ServeRun(config, environment, folder.printed), True, False
    health = Health(server.run, endpoint, environment)
    try:
        with closing(health):
            health.start()
            info = wait_until_ready(server, health, endpoint, environment, stop, needs_gpu=asks_for_gpu(config))
            if not stop.count:
                ready = True
                health.service_is_ready()
                folder.close_to_others()
                say(announcement(endpoint, info, folder.logs / "serve", folder.printed))
            while not stop.count:
                check_running(server, health)
                time.sleep(POLL_INTERVAL_S)
    except RunEnded as end:
        in_order, end.has_served = False, ready
        raise
    finally:
        server.end(stop, in_order=in_order)


def check_running(server: ServeRun, health: Health) -> None:
    """Check that neither `serve run` nor Ray has ended.

    Raises:
        RunEnded: one of them has ended.
    """
    if server.process.poll() is not None:
        raise RunEnded(server.failure, server.failure_status)
    if health.fault is not None:
        raise RunEnded(health.fault, server.failure_status)


def wait_until_ready(
    server: ServeRun,
    health: Health,
    endpoint: Endpoint,
    environment: Mapping[str, str],
    stop: StopRequests,
    *,
    needs_gpu: bool = False,
) -> dict[str, Any] | None:
    """Wait until the application answers; return its GET /info, or None if it asks for a key.

    Also returns None, without an answer, after a request to stop.

    Raises:
        StartError: the application has failed, is not ready in time, or waits for a GPU that this machine lacks.
        RunEnded: `serve run` or Ray has ended.
    """
    started = asked = time.monotonic()
    service, api, said = ServicePort(endpoint), ServeApi(environment["DARKROOM_RUN"], environment), 1
    while not stop.count:
        check_running(server, health)
        if response := service.info():
            return document_of(response)
        now = time.monotonic()
        if now - asked > STATUS_INTERVAL_S:
            if message := application_failure(api) or (gpu_missing(api) if needs_gpu else None):
                raise StartError(message)
            asked = now
        if now - started > READY_TIMEOUT_S:
            raise StartError(f"{endpoint.url}/info does not answer after {READY_TIMEOUT_S:.0f} s")
        if now - started > PATIENCE_S * said:
            say(f"Still starting after {PATIENCE_S * said:.0f} s")
            said += 1
        time.sleep(POLL_INTERVAL_S)
    return None


def document_of(response: httpx.Response) -> dict[str, Any] | None:
    """Return the JSON object of GET /info; None for another status, an empty one for any other text."""
    if response.status_code != httpx.codes.OK:
        return None
    try:
        found = response.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def application_failure(api: ServeApi) -> str | None:
    """Ask Serve whether an application has finally failed to deploy; return its messages, or None.

    In this case `serve run` does not end and, in its throughput mode, prints nothing either.
    """
    try:
        applications = api.applications()
    except ServeApiError:  # it is on its way, or has gone
        return None
    failed = [application for application in applications.values() if application["status"] == "DEPLOY_FAILED"]
    return "\n".join(message for application in failed for message in messages(application)) or None


def gpu_missing(api: ServeApi) -> str | None:
    """Ask Ray whether this machine has a GPU; return advice if it has none, else None.

    A replica would wait for a node with a GPU. On a cluster this is right, but the Ray of this run never gets another
    node.
    """
    try:
        if api.gpus() > 0:
            return None
    except ServeApiError:  # it is on its way, or has gone
        return None
    return (
        "device: cuda needs a GPU, and Ray finds none on this machine: check that nvidia-smi lists one and that "
        "CUDA_VISIBLE_DEVICES does not hide it, or write device: auto. (On a cluster, `serve deploy` waits for a node "
        "with a GPU.)"
    )


def messages(application: dict[str, Any]) -> list[str]:
    """Return what Serve says about an application and its deployments, without blank entries."""
    parts = [application, *application.get("deployments", {}).values()]
    return [str(part["message"]).strip() for part in parts if part.get("message")]


def main() -> int:
    """Run the command line; return the exit status: 0 after a stop on request."""
    parser = argparse.ArgumentParser(prog="python -m deployments.local.launcher", description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="?", type=Path, default=Path("serve_config.yaml"))
    parser.add_argument(
        "--new-starts",
        type=int,
        metavar="N",
        default=NEW_STARTS,
        help="how often within ten minutes the service is started anew where Ray has ended; then, or with 0 at once, "
        "the launcher ends with a status (default: %(default)s)",
    )
    options = parser.parse_args()
    try:
        return launch(options.config, options.new_starts)
    except StartError as error:
        complain(f"darkroom: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
