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
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from deployments.http.haproxy import HOST_VARIABLE
from deployments.local.console import announcement, complain, say
from deployments.local.disk_space import check_space, shared_memory_note
from deployments.local.endpoint import (
    Endpoint,
    StartError,
    asking_for_gpu,
    check_configuration,
    check_open_files,
    check_placement,
    needed_ports,
    read_endpoints,
    read_env,
)
from deployments.local.loopback import loopback
from deployments.local.machine import name_run, obstacles
from deployments.local.parent_process import end_with_parent
from deployments.local.ray_token import provide_token
from deployments.local.readiness import Readiness
from deployments.local.run_folder import COMPILED_VARIABLE, PARENT_VARIABLE, RunFolder, create_run_folder
from deployments.local.run_health import Health
from deployments.local.serve_api import ServeApi
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
        StartError: a check has failed, or no application answers: each has failed, or is not ready in time.
    """
    endpoints, run = read_endpoints(config), name_run()
    endpoint = endpoints[0]  # all have its host and port
    environment = build_environment(run)
    for place in {"/tmp", environment.get(PARENT_VARIABLE) or "/tmp"}:  # noqa: S108  only inspected
        check_space(Path(place))
    if note := shared_memory_note():
        say(note)
    check_configuration(config, environment)
    check_placement(config)
    check_open_files(environment)
    if found := obstacles(needed_ports(endpoint, environment)):
        raise StartError(f"nothing was started.\n{found}")
    folder = create_run_folder(run, environment)
    environment |= {PARENT_VARIABLE: str(folder.path), HOST_VARIABLE: endpoint.host}
    environment.setdefault(COMPILED_VARIABLE, str(folder.compiled))
    environment |= provide_token(environment, folder.path)
    say(f"Starting {config}, which takes about half a minute. Ray's own lines go to {folder.printed}")
    try:
        return keep_serving(config, endpoints, environment, folder, new_starts)
    finally:
        folder.discard_all_but_logs()
        say(f"The logs of this run stay in {folder.path}")


def keep_serving(
    config: Path, endpoints: Sequence[Endpoint], environment: Mapping[str, str], folder: RunFolder, new_starts: int
) -> int:
    """Serve until a signal comes, and restart the service when it has ended by itself; return the exit status.

    Raises:
        StartError: no application answers: each has failed, or is not ready in time.
    """
    stop, ended_at = StopRequests(), list[float]()
    while True:
        try:
            # HAProxy's sockets are always in /tmp, not in TMPDIR: a socket path may have 107 bytes, and Ray adds 80.
            with tempfile.TemporaryDirectory(prefix="darkroom-", dir="/tmp", ignore_cleanup_errors=True) as sockets:
                serve(config, endpoints, loopback(Path(sockets), environment), folder, stop)
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
    config: Path, endpoints: Sequence[Endpoint], environment: Mapping[str, str], folder: RunFolder, stop: StopRequests
) -> None:
    """Run `serve run` until a signal comes.

    Raises:
        StartError: no application answers: each has failed, or is not ready in time.
        RunEnded: `serve run` or Ray has ended by itself.
    """
    server, in_order, ready = ServeRun(config, environment, folder.printed), True, False
    health = Health(server.run, environment)
    readiness = Readiness(endpoints, ServeApi(server.run, environment), asking_for_gpu(config))
    try:
        with closing(health):
            health.start()
            wait_until_ready(server, health, readiness, stop)
            if not stop.count:
                ready = True
                health.service_is_ready(list(readiness.answering))
                folder.close_to_others()
                say(announcement(readiness, folder.logs / "serve", folder.printed))
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


def wait_until_ready(server: ServeRun, health: Health, readiness: Readiness, stop: StopRequests) -> None:
    """Wait until each application answers or has failed, or until a request to stop.

    An application that has failed does not keep the others from being served.

    Raises:
        StartError: no application answers: each has failed, is not ready in time, or waits for a GPU.
        RunEnded: `serve run` or Ray has ended.
    """
    started = asked = time.monotonic()
    said = 1
    while readiness.waiting and not stop.count:
        check_running(server, health)
        readiness.ask()
        now, failed = time.monotonic(), dict[str, str]()
        if now - started > READY_TIMEOUT_S:
            failed = readiness.give_up(READY_TIMEOUT_S)
        elif now - asked > STATUS_INTERVAL_S:
            failed, asked = readiness.ask_serve(), now
        if not readiness.waiting and not readiness.served:
            raise StartError("\n".join({*readiness.failed.values()}))
        for name, reason in failed.items():
            complain(f"darkroom: application {name} has failed, and the others are served without it:\n{reason}")
        if readiness.waiting and now - started > PATIENCE_S * said:
            say(f"Still starting after {PATIENCE_S * said:.0f} s{_named(readiness)}")
            said += 1
        time.sleep(POLL_INTERVAL_S)


def _named(readiness: Readiness) -> str:
    """Name the applications that are still starting, if others are not."""
    several = readiness.served or readiness.failed or len(readiness.waiting) > 1
    return f": {', '.join(each.application for each in readiness.waiting)}" if several else ""


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
    parser.add_argument(
        "--parent", type=int, metavar="PID", help="stop, as on Ctrl-C, when this process, the parent, has ended"
    )
    options = parser.parse_args()
    if options.parent:
        end_with_parent(options.parent)
    try:
        return launch(options.config, options.new_starts)
    except StartError as error:
        complain(f"darkroom: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
