"""A service of a soak's own: started by the launcher as `make serve` does it, on free ports, ended by Ctrl-C."""

import copy
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
import yaml

from benchmarks.ports import apart, free_port
from deployments.launcher import dashboard_port
from deployments.machine import leftovers, start_ticks

ROOT: Final = Path(__file__).parent.parent
_START_TIMEOUT_S: Final = 300.0
_STOP_TIMEOUT_S: Final = 60.0
_DEPLOY_TIMEOUT_S: Final = 120.0

Document = dict[str, Any]


class Launched:
    """A running service. Its constructor waits until it answers.

    Args:
        folder: for its configuration and its output.
        user_config: what is changed in that of the shipped serve_config.yaml.

    Raises:
        RuntimeError: it did not start; the message holds what it printed.
    """

    def __init__(self, folder: Path, user_config: Mapping[str, Any]) -> None:
        self._path, self.output = folder / "serve_config.yaml", folder / "output.txt"
        self._config: Document = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
        self._config["http_options"]["port"] = free_port()
        (deployment,) = self._config["applications"][0]["deployments"]
        # While Serve waits for room for more replicas than the machine holds, it may apply no settings.
        deployment["autoscaling_config"]["max_replicas"] = max(1, (os.cpu_count() or 1) // 2)
        self.user_config: Document = deployment["user_config"]
        self.user_config.update(user_config)
        self._path.write_text(yaml.safe_dump(self._config))
        self.port: int = self._config["http_options"]["port"]
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = {
            **os.environ,
            **apart(),
            "RAY_AUTH_MODE": "token",
        }  # as the launcher sets it, for `serve deploy`
        with self.output.open("wb") as sink:
            # A session of its own: a Ctrl-C in the terminal ends the soak, which then ends the service.
            self._launcher = subprocess.Popen(
                [sys.executable, "-m", "deployments.launcher", str(self._path)],
                cwd=ROOT,
                env=self._environment,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._launcher.pid
        self.run = f"{self.pid}-{start_ticks(self.pid)}"
        try:
            self._wait_until_it_answers()
        except BaseException:  # Ctrl-C too, which does not reach its session
            self.stop()
            raise

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while "Darkroom answers at" not in (printed := self.output.read_text(errors="replace")):
            if self._launcher.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the service did not start:\n{printed}")
            time.sleep(0.1)

    def with_user_config(self, user_config: Mapping[str, Any]) -> Document:
        """The `user_config` in force at the start, with these values changed."""
        return {**self.user_config, **user_config}

    def deploy(self, user_config: Mapping[str, Any]) -> None:
        """Applies another `user_config` by `serve deploy`; some seconds.

        Raises:
            RuntimeError: it was not accepted.
        """
        config = copy.deepcopy(self._config)
        config["applications"][0]["deployments"][0]["user_config"] = dict(user_config)
        self._path.write_text(yaml.safe_dump(config))
        address = f"http://127.0.0.1:{dashboard_port(self.run)}"
        command = [str(Path(sys.executable).with_name("serve")), "deploy", "--address", address, str(self._path)]
        try:
            done = subprocess.run(command, env=self._environment, capture_output=True, timeout=_DEPLOY_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"`serve deploy` has not ended within {_DEPLOY_TIMEOUT_S:.0f} s") from None
        if done.returncode:
            raise RuntimeError(f"`serve deploy` has failed: {done.stderr.decode(errors='replace')[-500:]}")

    def info(self) -> Document:
        """GET /info."""
        response = httpx.get(f"{self.url}/info", timeout=30, trust_env=False)
        document: Document = response.raise_for_status().json()
        return document

    def stop(self) -> list[str]:
        """Presses Ctrl-C; returns what did not end in order, or is left, a line each. May be called again."""
        if self._launcher.poll() is None:
            self._launcher.send_signal(signal.SIGINT)
        try:
            status = self._launcher.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._launcher.kill()
            status = self._launcher.wait()
        found = [f"the launcher ended with status {status}"] if status else []
        printed = self.output.read_text(errors="replace").splitlines()
        found += [line for line in printed if line.startswith("darkroom: ")]  # what it had to end by force
        found += [f"left running: {_described(process)}" for process in leftovers(self.run)]
        return found


def semaphores(pid: int) -> list[str]:
    """What a process has in /dev/shm under Darkroom's name for it."""
    return sorted(path.name for path in Path("/dev/shm").glob(f"sem.darkroom-{pid}-*"))  # noqa: S108


def _described(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())[:200]}"
    except psutil.Error:
        return str(process.pid)
