"""Changes settings of a running service, sends it requests, and counts the answers and their times."""

import copy
import random
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import httpx

from harness.load import Load, closed_loop, open_loop
from harness.local_service import LocalService, ServiceFailed
from harness.target import Form, Target
from tuning.bodies import bodies
from tuning.replica_settings import Settings, written_into
from tuning.tuned_config import on_cores

APPLY_TIMEOUT_S: Final = 120.0
"""Seconds for a change of settings; a change of `args` replaces the replica, which loads its model."""

_WARM_UP_S: Final = 0.5
_MAX_ROUND_S: Final = 15.0
_SETTLING_CLIENTS: Final = 8
_RELOAD_TIME_S: Final = 1.0
"""Seconds of load after a deployment: HAProxy reloads, closes its connections and answers late for a second."""

_POLL_INTERVAL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class LoadResult:
    """Results of one load on a service. Rates are images a second."""

    settings: Settings
    clients: int  # closed-loop clients; 0 for requests at random times
    offered: float  # images that were sent
    answered: float  # images that were answered
    good: float  # those of them within the bound
    p50_s: float  # of a request
    p99_s: float
    longest_s: float
    requests: int  # that were sent
    refused: int  # requests
    lost: int  # requests, neither answered nor refused
    late_s: float = 0.0  # longest delay of a request by the clients
    clients_cores: float = 0.0  # processor time that the clients took, in cores
    speed: float = 1.0  # of the machine then, relative to its speed when costs were measured

    @property
    def in_time(self) -> float:
        """Share of the sent images answered within the bound; 0 if none was sent."""
        return self.good / self.offered if self.offered else 0.0


@dataclass(frozen=True, slots=True)
class Busy:
    """Shares of the time, 0 to 1, that parts of the service were busy."""

    event_loop: float = 0.0
    cores: float = 1.0


class LoadCheck:
    """Changes the settings of a running service and sends it requests.

    Args:
        service: the running service.
        images: encoded images, sent in turn.
        bound_s: latency bound within which an answer counts; may be set at any time.
        seed: seed of the random times of requests, the same for all settings.
        images_per_request: images in one request.
        others: cores for the clients that the service does not use; if empty, clients share its cores.

    Attributes:
        expected: expected images a second of the service; 0 while unknown.
        last_others: statuses of the last load that were no predictions, and how often each came.
    """

    def __init__(
        self,
        service: LocalService,
        images: Sequence[bytes],
        bound_s: float,
        seed: int,
        *,
        images_per_request: int = 1,
        others: Collection[int] = (),
    ) -> None:
        self._service, self._seed, self._images_per_request, self._others = service, seed, images_per_request, others
        self.bound_s, self.expected, self.last_others = bound_s, 0.0, ""
        self._document = copy.deepcopy(service.document)
        path = f"{service.endpoint.route_prefix.rstrip('/')}/predict"
        self._target = Target(service.endpoint.host, service.endpoint.port, path, _as_it_is)
        self._forms = bodies(images, images_per_request)

    def apply(self, settings: Settings) -> None:
        """Deploy settings and wait until they are in force.

        Raises:
            ServiceFailed: the settings are not in force in time.
        """
        before = copy.deepcopy(self._document)
        written_into(self._document["applications"][0], settings)
        if self._document == before:
            return
        self._service.deploy(self._document)
        deadline = time.monotonic() + APPLY_TIMEOUT_S
        while not self._in_force(settings):
            if time.monotonic() > deadline:
                raise ServiceFailed(f"settings are not in force after {APPLY_TIMEOUT_S:.0f} s")
            time.sleep(_POLL_INTERVAL_S)
        self.closed_loop(settings, _SETTLING_CLIENTS, _RELOAD_TIME_S)

    def round_s(self, clients: int) -> float:
        """Estimate the seconds until each client has an answer."""
        return min(_MAX_ROUND_S, clients * self._images_per_request / self.expected) if self.expected else 0.0

    def closed_loop(self, settings: Settings, clients: int, for_s: float) -> LoadResult:
        """Send requests from closed-loop clients, which wait for each answer, or for Retry-After.

        The measurement begins when each client has had an answer, as they all start at once.
        """
        round_s = self.round_s(clients)
        warm_up_s, for_s = max(_WARM_UP_S, 1.5 * round_s), max(for_s, 1.5 * round_s)
        with on_cores(self._others):
            load = closed_loop(self._target, self._forms, clients=clients, warm_up_s=warm_up_s, for_s=for_s)
        return self._seen(settings, load, clients)

    def open_loop(self, settings: Settings, rate: float, for_s: float) -> LoadResult:
        """Send `rate` images a second at random times (Poisson), whether or not earlier ones are answered."""
        chance = random.Random(self._seed)  # noqa: S311 - not for secrets
        with on_cores(self._others):
            load = open_loop(
                self._target, self._forms, rate=rate / self._images_per_request, for_s=for_s, chance=chance
            )
        return self._seen(settings, load, 0)

    def _seen(self, settings: Settings, load: Load, clients: int) -> LoadResult:
        images_per_request = self._images_per_request
        self.last_others = ", ".join(f"{count} times {what}" for what, count in load.others.most_common(3))
        return LoadResult(
            settings=settings,
            clients=clients,
            offered=images_per_request * load.sent / load.for_s,
            answered=images_per_request * load.per_s,
            good=images_per_request * load.within_per_s(self.bound_s),
            p50_s=load.quantile_s(0.5),
            p99_s=load.quantile_s(0.99),
            longest_s=load.quantile_s(1.0),
            requests=load.sent,
            refused=load.refused,
            lost=sum(load.others.values()) - load.refused,
            late_s=load.late_s,
            clients_cores=load.clients_cores,
        )

    def verdict(self, seconds: int) -> str:
        """Read the service's sentence on its bottleneck in the last seconds; empty if it gives none."""
        return str(self._stats(seconds).get("verdict", ""))

    def busy(self, seconds: int) -> Busy:
        """Read how busy the service was in the last seconds."""
        stats = self._stats(seconds)
        return Busy(stats["event_loop"]["busy"], stats["cores"]["busy"]) if stats else Busy()

    def _stats(self, seconds: int) -> dict[str, Any]:
        with suppress(httpx.HTTPError):
            url = f"{self._service.endpoint.url}/stats?seconds={max(1, min(60, seconds))}"
            stats: dict[str, Any] = httpx.get(url, timeout=10, trust_env=False).raise_for_status().json()
            return stats
        return {}

    def _in_force(self, settings: Settings) -> bool:
        with suppress(httpx.HTTPError):
            info = self._service.info()
            return _holds(info["user_config"], settings.user_config) and _holds(info["args"], settings.args)
        return False


def _holds(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return all(key in found and _holds(found[key], value) for key, value in wanted.items())
    return bool(found == wanted)


def _as_it_is(image: bytes) -> Form:
    return Form("application/octet-stream", image)
