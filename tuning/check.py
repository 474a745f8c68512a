"""Holds settings against a running service: what comes back, and when, of what clients send it."""

import copy
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import httpx

from tuning.launched import Launched, ServiceFailed
from tuning.settings import Settings, written_into
from tuning.target import Form, Target
from tuning.wire import Load, closed_loop, open_loop

APPLIED_WITHIN_S: Final = 120.0
"""A replica is replaced where `args` change, and has its model to load."""

_WARM_UP_S: Final = 0.5
_SETTLING_CLIENTS: Final = 8
_SETTLES_AFTER_S: Final = 1.0
"""HAProxy is loaded anew after a deployment, and then closes connections that it had; late answers for a second."""

_ASKED_EVERY_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Seen:
    """What a service made of requests that came whether or not the earlier ones had been answered."""

    settings: Settings
    offered: float  # requests a second
    answered: float  # predictions a second
    good: float  # those of them within the bound
    p50_s: float  # of the answers
    p99_s: float
    refused: float  # of all requests
    lost: int  # neither answered nor refused
    late_s: float  # the most that the clients sent one late
    speed: float = 1.0  # of the machine then, as a multiple of what it was when costs were measured


class Check:
    """A service whose settings are changed and that is asked.

    Args:
        service: that runs.
        images: encoded, one a request, in turn.
        bound_s: within which an answer counts.
        seed: of the times at which requests come; the same for all settings.
    """

    def __init__(self, service: Launched, images: Sequence[bytes], bound_s: float, seed: int) -> None:
        self._service, self._bound_s, self._seed = service, bound_s, seed
        self._document = copy.deepcopy(service.document)
        path = f"{service.endpoint.route_prefix.rstrip('/')}/predict"
        self._target = Target(service.endpoint.host, service.endpoint.port, path, _as_it_is)
        self._forms = [_as_it_is(image) for image in images]

    def apply(self, settings: Settings) -> None:
        """Deploys settings and waits until they are in force.

        Raises:
            ServiceFailed: they are not.
        """
        before = copy.deepcopy(self._document)
        written_into(self._document["applications"][0], settings)
        if self._document == before:
            return
        self._service.deploy(self._document)
        deadline = time.monotonic() + APPLIED_WITHIN_S
        while not self._in_force(settings):
            if time.monotonic() > deadline:
                raise ServiceFailed(f"settings are not in force after {APPLIED_WITHIN_S:.0f} s")
            time.sleep(_ASKED_EVERY_S)
        self.peak(_SETTLING_CLIENTS, _SETTLES_AFTER_S)

    def peak(self, clients: int, for_s: float) -> float:
        """Answers a second to clients that wait for each, or are told to come again."""
        return closed_loop(self._target, self._forms, clients=clients, warm_up_s=_WARM_UP_S, for_s=for_s).per_s

    def seen(self, settings: Settings, rate: float, for_s: float) -> Seen:
        """What it makes of so many requests a second, by chance."""
        load = open_loop(self._target, self._forms, rate=rate, for_s=for_s, chance=random.Random(self._seed))  # noqa: S311
        return Seen(
            settings=settings,
            offered=load.sent / for_s,
            answered=load.per_s,
            good=load.within_per_s(self._bound_s),
            p50_s=load.quantile_s(0.5),
            p99_s=load.quantile_s(0.99),
            refused=load.refused / max(1, load.sent),
            lost=_lost(load),
            late_s=load.late_s,
        )

    def verdict(self, seconds: int) -> str:
        """What the service says has held it back in the last seconds."""
        with suppress(httpx.HTTPError):
            url = f"{self._service.endpoint.url}/stats?seconds={seconds}"
            return str(httpx.get(url, timeout=10, trust_env=False).json()["verdict"])
        return ""

    def _in_force(self, settings: Settings) -> bool:
        with suppress(httpx.HTTPError):
            info = self._service.info()
            return _holds(info["user_config"], settings.user_config) and _holds(info["args"], settings.args)
        return False


def _holds(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return all(key in found and _holds(found[key], value) for key, value in wanted.items())
    return bool(found == wanted)


def _lost(load: Load) -> int:
    return sum(load.others.values()) - load.refused


def _as_it_is(image: bytes) -> Form:
    return Form("application/octet-stream", image)
