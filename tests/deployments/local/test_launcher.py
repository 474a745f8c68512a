"""Tests of the launcher with real processes: refusals, starts, and ends that leave no process behind."""

import functools
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
import yaml

from deployments.local import launcher
from deployments.local.endpoint import Endpoint, StartError
from deployments.local.machine import leftovers, name_run, start_ticks
from deployments.local.readiness import Readiness, gpu_missing
from deployments.local.run_health import Health
from deployments.local.serve_api import ServeApi, ServeApiError
from deployments.local.serve_run import ServeRun
from deployments.local.stop_requests import StopRequests
from deployments.node import Node
from harness.local_service import shipped_config
from harness.ports import free_port
from tests.support.tiny import START_TIMEOUT_S, TinyService, tiny_service

STOP_TIMEOUT_S = 30.0  # far above the time of a stop, for busy machines

LISTENER = """
import signal, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), reuse_port=True)
print("listening", flush=True)
signal.pause()
"""


@pytest.fixture
def tiny(tmp_path: Path) -> TinyService:
    """Return an application behind HAProxy."""
    return tiny_service(tmp_path)


@pytest.fixture
def dead_run() -> str:
    """Name of a run whose launcher has ended."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as launcher:
        return f"{launcher.pid}-{start_ticks(launcher.pid)}"


@contextmanager
def listener(port: int, run: str = "") -> Iterator[int]:
    """Hold a port as HAProxy does, in its own process; yield its pid."""
    environment = {**os.environ, "DARKROOM_RUN": run}
    command = [sys.executable, "-c", LISTENER, str(port)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


def test_taken_ports_are_named_before_anything_starts(tiny: TinyService) -> None:
    """Each process that holds a needed port is named, also where the port could be shared, as with an old HAProxy."""
    haproxys = ("RAY_SERVE_HAPROXY_STATS_PORT", "RAY_SERVE_HAPROXY_METRICS_PORT")
    ports = [tiny.port, *(int(tiny.environment[variable]) for variable in haproxys)]
    with ExitStack() as stack:
        pids = [stack.enter_context(listener(port)) for port in ports]
        launched = stack.enter_context(tiny.launch())
        assert launched.process.wait(STOP_TIMEOUT_S) == 1
        for port, pid in zip(ports, pids, strict=True):
            assert re.search(rf"port {port}\b.*pid {pid}\b", launched.output)
        kill = re.search(r"kill ([\d ]+)\n", launched.output)
        assert kill is not None
        assert sorted(map(int, kill[1].split())) == sorted(pids)
        assert "left behind" not in launched.output
        assert "Running config file" not in launched.output


def test_orphan_of_an_earlier_run_is_named(tiny: TinyService, dead_run: str) -> None:
    """A process of a run whose launcher is dead is named as left behind, unlike a foreign process."""
    with listener(free_port(), dead_run) as pid, tiny.launch() as launched:
        assert launched.process.wait(STOP_TIMEOUT_S) == 1
        assert f"left behind by an earlier Darkroom, pid {pid}" in launched.output
        assert "Running config file" not in launched.output


def test_living_run_is_not_called_an_orphan(tiny: TinyService) -> None:
    """A port of a running Darkroom is reported with the launcher to end; its processes are not called left behind."""
    with listener(tiny.port, name_run()), tiny.launch() as launched:
        assert launched.process.wait(STOP_TIMEOUT_S) == 1
        assert f"part of the Darkroom running as pid {os.getpid()}" in launched.output
        assert f"kill {os.getpid()}\n" in launched.output


def test_too_few_open_files_are_named_before_anything_starts(tiny: TinyService) -> None:
    """Too low a limit on open files, as in some containers, stops the start.

    HAProxy would crash without a visible message.
    """
    command = [sys.executable, "-m", "deployments.local.launcher"]
    few = functools.partial(resource.setrlimit, resource.RLIMIT_NOFILE, (1024, 1024))
    done = subprocess.run(
        command, cwd=tiny.folder, env=tiny.environment, preexec_fn=few, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "may have 1024 files open here" in done.stderr
    assert "--ulimit nofile=65536" in done.stderr
    assert "Running config file" not in done.stderr


@pytest.mark.slow
def test_process_that_outlives_its_run_is_killed(tiny: TinyService) -> None:
    """A process that outlives its run is killed and named, also if it ignores SIGTERM."""
    tiny.configure(leaves=True)
    with tiny.launch() as launched:
        launched.wait_until_settled()
        launched.process.send_signal(signal.SIGINT)
        assert launched.process.wait(STOP_TIMEOUT_S) == 0
        assert leftovers(launched.run) == []
        assert re.search(r"kill what did not end by itself: .*sleep \(\d+\)", launched.output)


def test_what_serve_would_ignore_ends_the_start(tiny: TinyService) -> None:
    """A key that Serve would ignore stops the start, by the same check as `darkroom check`."""
    config = tiny.folder / "serve_config.yaml"
    document = yaml.safe_load(config.read_text())
    document["http_options"]["keep_alive_timeout"] = 5
    config.write_text(yaml.safe_dump(document))
    with tiny.launch() as launched:
        assert launched.process.wait(START_TIMEOUT_S) == 1
        assert "http_options.keep_alive_timeout: no such key; did you mean keep_alive_timeout_s?" in launched.output
        assert leftovers(launched.run) == []


class _NeverStopped(StopRequests):
    """A stand-in that leaves the signals of this process alone."""

    def __init__(self) -> None:
        self.count = 0


def test_a_service_that_does_not_get_ready_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that never becomes ready is ended after a timeout. `serve run` would go on and report no failure."""
    monkeypatch.setattr(launcher, "READY_TIMEOUT_S", 1.0)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        server, health = SimpleNamespace(process=process), SimpleNamespace(fault=None)
        readiness = Readiness([Endpoint("127.0.0.1", free_port(), "/")], ServeApi("none-0", {}), ())
        try:
            with pytest.raises(StartError, match="/info does not answer after 1 s"):
                launcher.wait_until_ready(cast(ServeRun, server), cast(Health, health), readiness, _NeverStopped())
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU: asking for it is no fault")
def test_a_gpu_that_this_machine_has_not_is_named_within_seconds(tiny: TinyService) -> None:
    """A missing GPU is reported within seconds. A replica would wait ten minutes for a node that never comes."""
    document = shipped_config("serve_config.gpu.yaml")
    document["http_options"]["port"] = tiny.port
    (tiny.folder / "serve_config.yaml").write_text(yaml.safe_dump(document))
    with tiny.launch() as launched:
        assert launched.process.wait(START_TIMEOUT_S) == 1
        assert "device: cuda needs a GPU, and Ray finds none on this machine" in launched.output
        assert leftovers(launched.run) == []


@pytest.mark.parametrize(("gpus", "missing"), [(0.0, True), (1.0, False), (None, False)])
def test_a_gpu_is_missing_only_where_ray_says_so(
    gpus: float | None, missing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU is reported as missing only when Ray says so, not while Ray cannot be asked yet."""

    def found(_: ServeApi) -> list[tuple[str, Node]]:
        if gpus is None:
            raise ServeApiError("the run has no dashboard")
        return [("127.0.0.1", Node(2.0, gpus))]

    monkeypatch.setattr(ServeApi, "nodes", found)
    assert (gpu_missing(ServeApi("1-0", {})) is not None) is missing


def test_application_that_fails_ends_the_launcher(tiny: TinyService) -> None:
    """An application that fails ends the launcher with its error, whereas `serve run` alone would wait for ever."""
    tiny.configure(fails=True)
    with tiny.launch() as launched:
        assert launched.process.wait(START_TIMEOUT_S) == 1
        assert "the weights are made of cheese" in launched.output
        assert leftovers(launched.run) == []
