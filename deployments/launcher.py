"""Starts Darkroom on this machine, says when it answers, and leaves nothing behind: what `make serve` runs.

`serve run` alone starts beside whatever holds its ports, waits for ever for an application that has failed, and ends
with status 0 after errors of its own. `machine.py` says how the processes of a run are found.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import psutil

from deployments.endpoint import (
    Endpoint,
    StartError,
    asks_for_gpu,
    check_configuration,
    check_open_files,
    needed_ports,
    read_endpoint,
    read_env,
)
from deployments.haproxy import HOST_VARIABLE
from deployments.loopback import loopback
from deployments.machine import leftovers, name_run, obstacles
from deployments.ray_token import provide_token
from deployments.run_folder import PARENT_VARIABLE, create_run_folder
from deployments.serve_api import ServeApi, ServeApiError
from deployments.space import check_space

READY_TIMEOUT_S = 600.0
POLL_INTERVAL_S = 0.2
STATUS_INTERVAL_S = 2.0

# After Ctrl-C everything is gone within 10 s. `serve run` needs 3 to 6 of them; what it has started, 1 more.
STOP_TIMEOUT_S = 7.5
SETTLE_TIMEOUT_S = 2.0
TERMINATE_TIMEOUT_S = 1.0


class StopRequests:
    """Counts SIGINT, SIGTERM and SIGHUP: the first ends the run, the next one the waiting for its end."""

    def __init__(self) -> None:
        self.count = 0
        # A handler, also where a shell has set SIGINT to be ignored: `serve run` would inherit that, and never stop.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._add)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as `nohup` sets it
            signal.signal(signal.SIGHUP, self._add)

    def _add(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1


def build_environment(run: str) -> dict[str, str]:
    """Return the environment of a run: serve.env, what the caller has set (it wins), and what marks its processes.

    Args:
        run: its name.
    """
    environment = read_env(Path("serve.env")) | dict(os.environ)
    environment["DARKROOM_RUN"] = run
    # Ray's processes set their title over their environment, which hides the mark; this keeps setproctitle off it.
    environment["SPT_NOENV"] = "1"
    # What Ray chooses by itself for a cluster of its own; said aloud, so that no other default ever holds.
    environment.setdefault("RAY_AUTH_MODE", "token")
    return environment


def launch(config: Path) -> int:
    """Check what is there, then serve until a signal comes or `serve run` ends; return the exit status.

    Raises:
        StartError: something is in the way, or the application has failed or is not ready in time.
    """
    endpoint, run = read_endpoint(config), name_run()
    check_space(Path("/tmp"))  # noqa: S108  nothing is opened there by this
    environment = build_environment(run)
    check_configuration(config, environment)
    check_open_files(environment)
    if found := obstacles(needed_ports(endpoint, environment)):
        raise StartError(f"nothing was started.\n{found}")
    folder = create_run_folder(run, environment)
    environment |= {PARENT_VARIABLE: str(folder.path), HOST_VARIABLE: endpoint.host}
    environment |= provide_token(environment, folder.path)
    try:
        # HAProxy's sockets, in /tmp whatever TMPDIR says: the path of a socket may have 107 bytes, and Ray adds 80.
        with tempfile.TemporaryDirectory(prefix="darkroom-", dir="/tmp", ignore_cleanup_errors=True) as sockets:
            return serve(config, endpoint, loopback(Path(sockets), environment))
    finally:
        folder.discard_all_but_logs()


def serve(config: Path, endpoint: Endpoint, environment: dict[str, str]) -> int:
    """Run `serve run` until a signal comes or it ends by itself; return the exit status.

    Raises:
        StartError: the application has failed or is not ready in time.
    """
    stop = StopRequests()
    # A session of its own: Ctrl-C reaches the launcher alone. `local`: never join a cluster that happens to run here.
    command = [str(Path(sys.executable).with_name("serve")), "run", "--address", "local", str(config)]
    # umask: the token, logs and sockets of the run are for this user alone.
    server = subprocess.Popen(command, env=environment, start_new_session=True, umask=0o077)  # noqa: S603  Ray's own
    try:
        if wait_until_ready(server, endpoint, environment, stop, needs_gpu=asks_for_gpu(config)):
            announce(endpoint)
        while server.poll() is None and not stop.count:
            time.sleep(POLL_INTERVAL_S)
        return 0 if stop.count else failure_status(server)
    finally:
        end(server, environment["DARKROOM_RUN"], stop)


def wait_until_ready(
    server: subprocess.Popen[bytes],
    endpoint: Endpoint,
    environment: dict[str, str],
    stop: StopRequests,
    *,
    needs_gpu: bool = False,
) -> bool:
    """Wait until the application answers; return whether it does. It does not where the run is ending instead.

    Raises:
        StartError: the application has failed, is not ready in time, or waits for a GPU that this machine has not.
    """
    started = asked = time.monotonic()
    api = ServeApi(environment["DARKROOM_RUN"], environment)
    while server.poll() is None and not stop.count:
        if answers(endpoint):
            return True
        if time.monotonic() - asked > STATUS_INTERVAL_S:
            if message := application_failure(api) or (gpu_missing(api) if needs_gpu else None):
                raise StartError(message)
            asked = time.monotonic()
        if time.monotonic() - started > READY_TIMEOUT_S:
            raise StartError(f"{endpoint.url}/info does not answer after {READY_TIMEOUT_S:.0f} s")
        time.sleep(POLL_INTERVAL_S)
    return False


def answers(endpoint: Endpoint) -> bool:
    """Whether the application is ready; Serve itself answers 404 or 503 before that.

    An application that asks for a key is ready as well: Serve asks for none.
    """
    try:
        status = httpx.get(f"{endpoint.url}/info", timeout=2, trust_env=False).status_code
        return status in (httpx.codes.OK, httpx.codes.UNAUTHORIZED)
    except httpx.TransportError:
        return False


def application_failure(api: ServeApi) -> str | None:
    """Ask Serve whether an application has failed for good; return its messages, or None.

    `serve run` does not end then and, in the mode for throughput, prints nothing either.
    """
    try:
        applications = api.applications()
    except ServeApiError:  # it is on its way, or has gone
        return None
    failed = [application for application in applications.values() if application["status"] == "DEPLOY_FAILED"]
    return "\n".join(message for application in failed for message in messages(application)) or None


def gpu_missing(api: ServeApi) -> str | None:
    """Ask Ray whether this machine has a GPU; return what to do where it has none, or None.

    A replica would wait for a node with one. That is right on a cluster, but the Ray of this run never gets another
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


def announce(endpoint: Endpoint) -> None:
    """Say that the service is ready, and how to call it."""
    sys.stdout.write(
        f"\nDarkroom answers at {endpoint.url} until Ctrl-C. To try it:\n"
        f"  curl -F image=@examples/chelsea.jpg {endpoint.url}/predict\n\n"
    )
    sys.stdout.flush()


def failure_status(server: subprocess.Popen[bytes]) -> int:
    """Return the exit status for a `serve run` that has ended by itself, which it does with 0 after errors too."""
    status = server.returncode
    sys.stderr.write(f"darkroom: `serve run` has ended by itself, with status {status}\n")
    return 128 - status if status < 0 else status or 1


def end(server: subprocess.Popen[bytes], run: str, stop: StopRequests) -> None:
    """Stop a run in order, then by force; afterwards none of its processes is left."""
    requests = stop.count
    deadline = time.monotonic() + STOP_TIMEOUT_S
    if server.poll() is None:
        server.send_signal(signal.SIGINT)
    while server.poll() is None and stop.count == requests and time.monotonic() < deadline:
        time.sleep(POLL_INTERVAL_S)
    if server.poll() is not None:
        deadline = min(deadline, time.monotonic() + SETTLE_TIMEOUT_S)
    while leftovers(run) and stop.count == requests and time.monotonic() < deadline:
        time.sleep(POLL_INTERVAL_S)
    for send in (psutil.Process.terminate, psutil.Process.kill):
        if remaining := leftovers(run):
            force(remaining, send)
    server.wait()


def force(processes: list[psutil.Process], send: Callable[[psutil.Process], None]) -> None:
    """Send a signal to processes that have not ended when asked to, say so, and wait a moment for their end."""
    names = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            names.append(f"{process.name()} ({process.pid})")
            send(process)
    sys.stderr.write(f"darkroom: {send.__name__} what did not end by itself: {', '.join(names)}\n")
    psutil.wait_procs(processes, timeout=TERMINATE_TIMEOUT_S)


def main() -> int:
    """Run the command line; return the exit status: 0 after a stop on request."""
    parser = argparse.ArgumentParser(prog="python -m deployments.launcher", description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="?", type=Path, default=Path("serve_config.yaml"))
    try:
        return launch(parser.parse_args().config)
    except StartError as error:
        sys.stderr.write(f"darkroom: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
