"""A Darkroom service for tests: the launcher starts it, as `make serve` does, and Ctrl-C ends it."""

import copy
import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from deployments.live_config import LiveConfig
from deployments.local.endpoint import read_endpoints
from deployments.local.machine import run_of
from deployments.local.serve_api import ServeApi
from harness.local_service import Document, LocalService
from harness.marked_program import with_environment
from harness.ports import apart, free_port
from harness.roles import FORKSERVER, REPLICA, WORKER, role_of
from tests.support.waiting import until

AS_LAUNCHED = {
    "RAY_AUTH_MODE": "token",  # the launcher's value, which `serve deploy` from outside needs too
    "SPT_NOENV": "1",  # also the launcher's value: Ray's process titles would hide the environment
}


class Service:
    """A running service, and a client of one of its applications.

    Args:
        local: the service.
        application: position of the application in the configuration.
    """

    def __init__(self, local: LocalService, application: int = 0) -> None:
        self.local, self.path, self.config = local, local.path, local.document
        self.environment, self.output = local.environment, local.output
        endpoint = read_endpoints(local.path)[application]
        self.origin, self.url = endpoint.origin, endpoint.url
        self.application: Document = self.config["applications"][application]
        self.client = httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def post(self, content: bytes, content_type: str = "image/jpeg", **options: Any) -> httpx.Response:
        """Send POST /predict with a raw body."""
        headers = {"Content-Type": content_type, **options.pop("headers", {})}
        return self.client.post("/predict", content=content, headers=headers, **options)

    def post_files(self, *images: bytes, **options: Any) -> httpx.Response:
        """Send POST /predict with one part for each image."""
        return self.client.post(
            "/predict", files=[("image", (f"{n}", data)) for n, data in enumerate(images)], **options
        )

    def info(self) -> Document:
        """Return GET /info, without keeping the connection, which would keep a replaced HAProxy alive."""
        document: Document = self.client.get("/info", headers={"Connection": "close"}).raise_for_status().json()
        return document

    def replicas(self) -> list[psutil.Process]:
        """Return the processes of this service's replicas."""
        return [process for process in self.processes() if role_of(process) == REPLICA]

    def processes(self) -> list[psutil.Process]:
        """Return all processes that this service has started and that still run."""
        return marked(self.environment["DARKROOM_TEST"])

    def deploy(self, config: Document) -> None:
        """Apply another configuration; return before it is in force."""
        self.path.write_text(yaml.safe_dump(config))
        self.api().deploy(config)

    def api(self) -> ServeApi:
        """Return Serve's API, which lists and takes deployments."""
        return ServeApi(run_of(self.replicas()[0]) or "", self.environment)

    def log_folder(self) -> Path:
        """Return the log folder of the service's Ray session."""
        (raylet,) = [process for process in self.processes() if name_of(process) == "raylet"]
        (option,) = [part for part in raylet.cmdline() if part.startswith("--log_dir=")]
        return Path(option.partition("=")[2])

    def log_lines(self) -> list[Document]:
        """Return the lines that the replicas have logged, each a document."""
        files = sorted((self.log_folder() / "serve").glob("replica_*.log"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def marked(mark: str) -> list[psutil.Process]:
    """Return the processes that have DARKROOM_TEST=mark in their environment."""
    return with_environment("DARKROOM_TEST", mark)


def name_of(process: psutil.Process) -> str:
    """Return the name of a process, empty if it has gone."""
    try:
        return process.name()
    except psutil.Error:
        return ""


def is_decoder(process: psutil.Process) -> bool:
    """Return whether a process is a worker of the pipeline, or a forkserver."""
    return role_of(process) in (FORKSERVER, WORKER)


@contextmanager
def running(folder: Path, config: Document, *prefix: str, **variables: str) -> Iterator[Service]:
    """Start `config` on a free port by the launcher; after the block it must end in order and leave no process.

    Args:
        folder: folder for the configuration and the service's output.
        config: configuration as in serve_config.yaml; its port is replaced.
        prefix: words before the launcher's command.
        variables: environment variables, beside those that every test's service has.
    """
    config = copy.deepcopy(config)
    config["http_options"]["port"] = free_port()
    mark = {"DARKROOM_TEST": str(folder / "serve_config.yaml")}
    local = LocalService(folder, config, {**apart(), **AS_LAUNCHED, **variables, **mark}, prefix)
    service = Service(local)
    try:
        yield service
    finally:
        service.client.close()
        status = local.end(within_s=30)
    assert status == 0, f"the launcher ended with status {status}"
    assert "did not end by itself" not in local.output.read_text(), "something had to be ended by force"
    assert not service.processes(), "the service has left processes behind"


def with_user_config(service: Service, **user_config: Any) -> Document:
    """Return the service's configuration with these values changed."""
    config = copy.deepcopy(service.config)
    config["applications"][0]["deployments"][0]["user_config"].update(user_config)
    return config


def live_settings(application: Document) -> Document:
    """Return all settings under `user_config` of an application, defaults included."""
    (deployment,) = application["deployments"]
    return LiveConfig.model_validate(deployment["user_config"]).model_dump()


@contextmanager
def live_config(service: Service, **user_config: Any) -> Iterator[None]:
    """Apply another `user_config` to a running service, and the former one after the block."""
    _apply(service, with_user_config(service, **user_config))
    try:
        yield
    finally:
        _apply(service, service.config)


def _apply(service: Service, config: Document) -> None:
    service.deploy(config)
    wanted = live_settings(config["applications"][0])
    until(lambda: bool(service.info()["user_config"] == wanted))


@contextmanager
def opened(service: Service, *, content_length: int) -> Iterator[http.client.HTTPConnection]:
    """Open a request for a prediction and send only its headers."""
    connection = http.client.HTTPConnection(service.origin.removeprefix("http://"), timeout=30)
    connection.putrequest("POST", f"{service.url.removeprefix(service.origin)}/predict")
    connection.putheader("Content-Type", "image/jpeg")
    connection.putheader("Content-Length", str(content_length))
    connection.endheaders()
    try:
        yield connection
    finally:
        connection.close()
