"""A Darkroom service of a test's own: started by the launcher as `make serve` does it, ended by Ctrl-C."""

import copy
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from deployments.local.machine import run_of
from deployments.local.serve_api import ServeApi
from deployments.service_config import LiveConfig
from harness.ports import apart, free_port
from harness.repository import ROOT
from harness.roles import FORKSERVER, REPLICA, WORKER, role_of
from tests.support.waiting import until

START_TIMEOUT_S = 180.0

AS_LAUNCHED = {
    "RAY_AUTH_MODE": "token",  # as the launcher sets it: `serve deploy` from outside needs it too
    "SPT_NOENV": "1",  # likewise: Ray's process titles would hide the environment
}

Document = dict[str, Any]


def shipped_config(name: str = "serve_config.yaml") -> Document:
    """One of the configurations in the repository's root, parsed."""
    document: Document = yaml.safe_load((ROOT / name).read_text())
    return document


class Service:
    """A running service.

    Args:
        path: of its configuration, which `deploy` replaces.
        config: that configuration.
        environment: of its processes.
        output: what it has printed so far.
    """

    def __init__(self, path: Path, config: Document, environment: Mapping[str, str], output: Path) -> None:
        self.path, self.config, self.environment, self.output = path, config, environment, output
        self.url = f"http://127.0.0.1:{config['http_options']['port']}"
        self.client = httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def post(self, content: bytes, content_type: str = "image/jpeg", **options: Any) -> httpx.Response:
        """POST /predict with a raw body."""
        headers = {"Content-Type": content_type, **options.pop("headers", {})}
        return self.client.post("/predict", content=content, headers=headers, **options)

    def post_files(self, *images: bytes, **options: Any) -> httpx.Response:
        """POST /predict with a part an image."""
        return self.client.post(
            "/predict", files=[("image", (f"{n}", data)) for n, data in enumerate(images)], **options
        )

    def info(self) -> Document:
        """GET /info, on a connection that is not kept: it would keep a HAProxy that has been replaced."""
        document: Document = self.client.get("/info", headers={"Connection": "close"}).raise_for_status().json()
        return document

    def replicas(self) -> list[psutil.Process]:
        """The processes of this service's replicas."""
        return [process for process in self.processes() if role_of(process) == REPLICA]

    def processes(self) -> list[psutil.Process]:
        """Everything that this service has started and that still runs."""
        return marked(self.environment["DARKROOM_TEST"])

    def deploy(self, config: Document) -> None:
        """Applies another configuration; returns before it is in force."""
        self.path.write_text(yaml.safe_dump(config))
        self.api().deploy(config)

    def api(self) -> ServeApi:
        """Where Serve says what is deployed, and is told what to deploy."""
        return ServeApi(run_of(self.replicas()[0]) or "", self.environment)

    def log_folder(self) -> Path:
        """Where Ray keeps the logs of the session that the service runs in."""
        (raylet,) = [process for process in self.processes() if name_of(process) == "raylet"]
        (option,) = [part for part in raylet.cmdline() if part.startswith("--log_dir=")]
        return Path(option.partition("=")[2])

    def log_lines(self) -> list[Document]:
        """What the replicas have logged, a document a line."""
        files = sorted((self.log_folder() / "serve").glob("replica_*.log"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def marked(mark: str) -> list[psutil.Process]:
    """The processes that were started, at whatever remove, with DARKROOM_TEST=mark in their environment."""
    return [process for process in psutil.process_iter() if _environment(process).get("DARKROOM_TEST") == mark]


def name_of(process: psutil.Process) -> str:
    """Its name; an empty one when it has gone."""
    try:
        return process.name()
    except psutil.Error:
        return ""


def is_decoder(process: psutil.Process) -> bool:
    """Whether a worker of the pipeline runs in it, or the process that workers are forked from."""
    return role_of(process) in (FORKSERVER, WORKER)


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


@contextmanager
def running(folder: Path, config: Document, *prefix: str, **variables: str) -> Iterator[Service]:
    """Starts `config` on a free port by the launcher; after the block it has to end in order, and to leave nothing.

    Args:
        folder: for the configuration and what the service prints.
        config: as in serve_config.yaml; the port does not count.
        prefix: of the command line.
        variables: of the environment, beside those that every test's service has.
    """
    config = copy.deepcopy(config)
    config["http_options"]["port"] = free_port()
    path, output = folder / "serve_config.yaml", folder / "output.txt"
    path.write_text(yaml.safe_dump(config))
    environment = {**os.environ, **apart(), **AS_LAUNCHED, **variables, "DARKROOM_TEST": str(path)}
    with output.open("wb") as sink:
        command = [*prefix, sys.executable, "-m", "deployments.local.launcher", str(path)]
        launcher = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=sink, stderr=subprocess.STDOUT)
    service = Service(path, config, environment, output)
    try:
        until(lambda: launcher.poll() is not None or _announced(output), timeout_s=START_TIMEOUT_S)
        if launcher.poll() is not None:
            raise RuntimeError(f"the service did not start:\n{output.read_text()}")
        yield service
    finally:
        service.client.close()
        launcher.send_signal(signal.SIGINT)
        status = launcher.wait(timeout=30)
    assert status == 0, f"the launcher ended with status {status}"
    assert "did not end by itself" not in output.read_text(), "something had to be ended by force"
    assert not service.processes(), "the service has left processes behind"


def with_user_config(service: Service, **user_config: Any) -> Document:
    """The service's configuration with these values changed."""
    config = copy.deepcopy(service.config)
    config["applications"][0]["deployments"][0]["user_config"].update(user_config)
    return config


def live_settings(config: Document) -> Document:
    """All settings under `user_config` of a configuration, those that are not written too."""
    (deployment,) = config["applications"][0]["deployments"]
    return LiveConfig.model_validate(deployment["user_config"]).model_dump()


@contextmanager
def live_config(service: Service, **user_config: Any) -> Iterator[None]:
    """Applies another `user_config` to a running service, and the former one after the block."""
    _apply(service, with_user_config(service, **user_config))
    try:
        yield
    finally:
        _apply(service, service.config)


def _apply(service: Service, config: Document) -> None:
    service.deploy(config)
    wanted = live_settings(config)
    until(lambda: bool(service.info()["user_config"] == wanted))


@contextmanager
def opened(service: Service, *, content_length: int) -> Iterator[http.client.HTTPConnection]:
    """A request for a prediction of which only the headers have been sent."""
    connection = http.client.HTTPConnection(service.url.removeprefix("http://"), timeout=30)
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Type", "image/jpeg")
    connection.putheader("Content-Length", str(content_length))
    connection.endheaders()
    try:
        yield connection
    finally:
        connection.close()


def _announced(output: Path) -> bool:
    return "Darkroom answers at" in output.read_text()
