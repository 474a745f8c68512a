"""Replicas come with the load and go after it, and no request is lost on the way."""

import threading
import time
from collections import Counter
from pathlib import Path

import httpx

from tests.photographs import jpeg, photograph
from tests.service import Document, Service, running, shipped_config
from tests.waiting import until

CAT = jpeg(photograph("cat"))


def _scaling_config() -> Document:
    """The shipped configuration, quick to scale, and each replica small enough that two fit on two cores."""
    config = shipped_config()
    application = config["applications"][0]
    application["args"]["num_cpus"] = 1
    application["deployments"][0]["autoscaling_config"] = {
        "min_replicas": 1,
        "max_replicas": 2,
        "target_ongoing_requests": 4,
        "upscale_delay_s": 1,
        "downscale_delay_s": 3,
        "metrics_interval_s": 1,
        "look_back_period_s": 2,
    }
    return config


class Load:
    """Clients that ask one after another until told to stop.

    Args:
        service: whom they ask.
        clients: how many at once.
    """

    def __init__(self, service: Service, clients: int) -> None:
        self.answers: Counter[str] = Counter()
        self._service, self._stop = service, threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Lets every client finish its request."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with httpx.Client(base_url=self._service.url, timeout=60, trust_env=False) as client:
            while not self._stop.is_set():
                try:
                    response = client.post("/predict", content=CAT, headers={"Content-Type": "image/jpeg"})
                    self.answers[str(response.status_code)] += 1
                except httpx.TransportError as error:
                    self.answers[repr(error)] += 1


def test_replicas_follow_the_load(tmp_path: Path) -> None:
    """A second replica comes under load and goes when it is over; every request is answered with 200."""
    with running(tmp_path, _scaling_config()) as service:
        assert len(service.replicas()) == 1
        heavy = Load(service, clients=32)
        until(lambda: _serving(service) == 2, timeout_s=90)
        time.sleep(3)  # some load on both
        heavy.stop()
        light = Load(service, clients=1)
        until(lambda: len(service.replicas()) == 1, timeout_s=90)
        light.stop()
    assert set(heavy.answers) == {"200"}, heavy.answers
    assert set(light.answers) == {"200"}, light.answers


def _serving(service: Service) -> int:
    """Replicas that have workers, which they have when they are ready."""
    return sum(len(replica.children(recursive=True)) >= 3 for replica in service.replicas())
