"""Tests of starting and ending the service by Ray's own commands and by force: no process is left behind."""

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from harness.local_service import Document, shipped_config
from harness.photographs import jpeg, photograph
from harness.ports import free_port
from harness.repository import ROOT
from tests.support.running_service import Service, is_decoder, marked, name_of
from tests.support.waiting import until

CAT = jpeg(photograph("cat"))


def _is_whole(service: Service) -> bool:
    try:
        return service.post(CAT).status_code == 200
    except httpx.TransportError:
        return False


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def test_killing_the_replica_leaves_no_worker_behind(service: Service) -> None:
    """A replica killed by SIGKILL leaves no worker behind, because workers see their pipe close.

    A new replica then serves, and takes over the measured speeds of the first one.
    """
    (replica,) = service.replicas()
    compared = service.info()["runtimes_compared"]
    family = _children(replica)
    assert any("forkserver" in " ".join(process.cmdline()) for process in family)

    replica.send_signal(signal.SIGKILL)

    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    until(lambda: _is_whole(service), timeout_s=60)
    assert [process.pid for process in service.replicas()] != [replica.pid]
    assert service.info()["runtimes_compared"] == compared  # to the last digit


def _plain_config(folder: Path) -> tuple[Path, str]:
    config: Document = shipped_config()
    config["http_options"]["port"] = free_port()
    config["applications"][0]["args"]["pipeline"]["runtime"] = "torch"
    path = folder / "serve_config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path, f"http://127.0.0.1:{config['http_options']['port']}/predict"


def _labels_a_cat(url: str) -> bool:
    try:
        response = httpx.post(url, content=CAT, headers={"Content-Type": "image/jpeg"}, timeout=30, trust_env=False)
    except httpx.TransportError:
        return False
    return response.status_code == 200 and "cat" in response.json()["predictions"][0]["label"]


def _command(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _environment(mark: str) -> dict[str, str]:
    return {**os.environ, "SPT_NOENV": "1", "RAY_USAGE_STATS_ENABLED": "0", "DARKROOM_TEST": mark}


def _of_darkroom(mark: str) -> list[psutil.Process]:
    """Return replicas and the processes that they started, without Ray's own."""
    return [process for process in marked(mark) if "ServeReplica" in name_of(process) or is_decoder(process)]


def _nothing_is_left(mark: str) -> None:
    with suppress(TimeoutError):
        until(lambda: not marked(mark))
    assert [(name_of(process), process.ppid(), process.status()) for process in marked(mark)] == []


def test_plain_serve_run_works(tmp_path: Path) -> None:
    """`serve run` works without serve.env, by Serve's Python proxy, and Ctrl-C leaves no process behind."""
    path, url = _plain_config(tmp_path)
    with (tmp_path / "output.txt").open("wb") as sink:
        command = [_command("serve"), "run", "--address", "local", str(path)]
        environment = _environment(str(tmp_path))
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=sink, stderr=sink)
        try:
            until(lambda: _labels_a_cat(url) or server.poll() is not None, timeout_s=120)
            assert server.poll() is None, (tmp_path / "output.txt").read_text()
            server.send_signal(signal.SIGINT)
            server.wait(timeout=60)
            _nothing_is_left(str(tmp_path))
        finally:
            _end(marked(str(tmp_path)))
            server.wait(timeout=10)


@pytest.mark.slow
def test_ray_start_and_serve_deploy_work(tmp_path: Path) -> None:
    """On a running cluster the commands of docs/deployment.md deploy, report and shut down, and no process is left."""
    path, url = _plain_config(tmp_path)
    mark, dashboard = str(tmp_path), free_port()

    def run(*command: str) -> str:
        environment = {
            **_environment(mark),
            "RAY_AUTH_MODE": "token",
            "RAY_DASHBOARD_ADDRESS": f"http://127.0.0.1:{dashboard}",
        }
        started = [_command(command[0]), *command[1:]]
        done = subprocess.run(started, cwd=ROOT, env=environment, timeout=120, capture_output=True)
        assert done.returncode == 0, (done.stdout + done.stderr).decode()
        return done.stdout.decode()

    with tempfile.TemporaryDirectory(prefix="ray") as scratch:  # the folder of Ray's sockets, whose paths must be short
        run("ray", "get-auth-token", "--generate")
        ports = [f"--port={free_port()}", f"--dashboard-port={dashboard}"]
        run("ray", "start", "--head", f"--temp-dir={scratch}", *ports)
        try:
            run("serve", "deploy", str(path))
            until(lambda: _labels_a_cat(url), timeout_s=120)
            assert "RUNNING" in run("serve", "status")
            assert _of_darkroom(mark)
            run("serve", "shutdown", "-y")
            until(lambda: not _of_darkroom(mark))
        finally:
            _end(marked(mark))


def _end(processes: list[psutil.Process]) -> None:
    """End the Ray of one test; `ray stop` would end every other Ray on the machine as well."""
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=10)
