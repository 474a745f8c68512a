"""Who asks a service from its first moment on, when it cannot have an answer yet."""

import threading
from pathlib import Path

import httpx
import psutil
import yaml

from benchmarks.photographs import jpeg, photograph
from tests.service import is_decoder, marked
from tests.waiting import until

COLD = 10
"""Questions to a service that cannot have an answer yet."""


class Early:
    """Somebody who asks from the first moment, and holds the decoders up meanwhile: without them there is no warm-up.

    Args:
        path: where the configuration will lie.
        replicas: that will start.

    Attributes:
        cold: what was answered while no replica can have been warm.
        after: what was answered from then on.
    """

    def __init__(self, path: Path, replicas: int) -> None:
        self.cold: list[str] = []
        self.after: list[str] = []
        self.path, self.stop, self._replicas = path, threading.Event(), replicas

    def watch(self) -> None:
        """Holds up, asks, lets go, asks until stopped."""
        until(lambda: self.path.exists() and self.path.read_text())
        port, held = yaml.safe_load(self.path.read_text())["http_options"]["port"], set[psutil.Process]()
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=2, trust_env=False) as client:
            try:
                while not self.stop.is_set() and (len(held) < self._replicas or len(self.cold) < COLD):
                    for process in {*filter(is_decoder, marked(str(self.path)))} - held:
                        process.suspend()
                        held.add(process)
                    self.cold.append(_ask(client))
            finally:
                for process in held:
                    process.resume()
            while not self.stop.is_set():
                self.after.append(_ask(client))


def _ask(client: httpx.Client) -> str:
    try:
        headers = {"Content-Type": "image/jpeg"}
        return str(client.post("/predict", content=jpeg(photograph("cat")), headers=headers).status_code)
    except httpx.TransportError as error:
        return type(error).__name__
