"""A service that starts quickly: an application without a model, launched as `make serve` launches Darkroom."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from deployments.local.machine import leftovers, start_ticks
from harness.ports import apart, free_port
from harness.repository import ROOT
from tests.support.waiting import until

START_TIMEOUT_S = 180.0

APPLICATION = """
import subprocess
from ray import serve
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

async def info(request):
    return JSONResponse({"model": "none"})

@serve.deployment(max_constructor_retry_count=1)
@serve.ingress(Starlette(routes=[Route("/info", info)]))
class Service:
    def __init__(self, fails, leaves):
        if fails:
            raise RuntimeError("the weights are made of cheese")
        if leaves:
            subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 600 & wait; wait"], start_new_session=True)

def build(args):
    return Service.bind(args["fails"], args["leaves"])
"""


@dataclass
class Launched:
    """A launcher that the test has started, and its output."""

    process: subprocess.Popen[bytes]
    run: str
    log: Path

    @property
    def output(self) -> str:
        """Return the output of the launcher and `serve run` so far."""
        return self.log.read_text()

    def wait_until_settled(self) -> None:
        """Wait until the service answers, or the launcher has ended."""
        until(lambda: "Darkroom answers" in self.output or self.process.poll() is not None, START_TIMEOUT_S)


@dataclass
class TinyService:
    """A folder with a small application and its configuration, on free ports."""

    folder: Path
    port: int
    environment: dict[str, str]

    def configure(self, *, fails: bool = False, leaves: bool = False) -> None:
        """Write the configuration."""
        application = {"name": "tiny", "route_prefix": "/", "import_path": "tiny:build"}
        application |= {"args": {"fails": fails, "leaves": leaves}}  # type: ignore[dict-item]
        options = {"host": "127.0.0.1", "port": self.port}
        document = yaml.safe_dump({"http_options": options, "applications": [application]})
        (self.folder / "serve_config.yaml").write_text(document)

    @contextmanager
    def launch(self, *arguments: str) -> Iterator[Launched]:
        """Start the launcher as `make serve` does; leftover processes are killed afterwards."""
        log = self.folder / "log"
        command = [sys.executable, "-m", "deployments.local.launcher", *arguments]
        with (
            log.open("wb") as out,
            subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=out, stderr=out) as process,
        ):
            run = f"{process.pid}-{start_ticks(process.pid)}"
            try:
                yield Launched(process, run, log)
            finally:
                process.kill()
                for left in leftovers(run):
                    left.kill()


def tiny_service(folder: Path) -> TinyService:
    """Write an application and its configuration; a Darkroom on this machine would use none of its ports."""
    (folder / "tiny.py").write_text(APPLICATION)
    (folder / "serve.env").write_text((ROOT / "serve.env").read_text())
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **apart()}
    tiny = TinyService(folder, free_port(), environment)
    tiny.configure()
    return tiny
