"""A client that sends requests to a service from its first moment on, before an answer is possible."""

import threading
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import httpx
import psutil
import yaml

from harness.background import in_background
from harness.photographs import jpeg, photograph
from tests.support.running_service import is_decoder, marked
from tests.support.waiting import until

COLD = 10
"""Number of requests to a service that cannot answer yet."""


class Early:
    """A client that sends requests from the first moment on.

    It stops the decoders for a while: without them there is no warm-up.

    Args:
        path: the configuration's future path.
        replicas: number of replicas that will start.

    Attributes:
        cold: answers from the time before a replica could be warm.
        after: answers from then on.
    """

    def __init__(self, path: Path, replicas: int) -> None:
        self.cold: list[str] = []
        self.after: list[str] = []
        self.path, self.stop, self._replicas = path, threading.Event(), replicas
        self._forkservers: set[int] = set()  # forkservers of replicas whose decoders were stopped

    def watch(self) -> None:
        """Stop the decoders, send requests, let the decoders go, and send requests until stopped."""
        until(lambda: self.path.exists() and self.path.read_text())
        port = yaml.safe_load(self.path.read_text())["http_options"]["port"]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=2, trust_env=False) as client:
            with self._without_decoders():
                while not self.stop.is_set() and (len(self._forkservers) < self._replicas or len(self.cold) < COLD):
                    self.cold.append(_ask(client))
            while not self.stop.is_set():
                self.after.append(_ask(client))

    def _without_decoders(self) -> AbstractContextManager[None]:
        """Stop each decoder process before it is ready while the block runs; afterwards its replica starts another."""
        return in_background(self._stop_decoders)

    def _stop_decoders(self, over: threading.Event) -> None:
        while not over.wait(0.01):
            found = {process.pid: process for process in marked(str(self.path)) if is_decoder(process)}
            for process in found.values():
                with suppress(psutil.NoSuchProcess):
                    if (parent := process.ppid()) in found:  # a worker has the command line of its forkserver
                        process.suspend()
                        self._forkservers.add(parent)


def _ask(client: httpx.Client) -> str:
    try:
        headers = {"Content-Type": "image/jpeg"}
        return str(client.post("/predict", content=jpeg(photograph("cat")), headers=headers).status_code)
    except httpx.TransportError as error:
        return type(error).__name__
