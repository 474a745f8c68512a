"""Contestants of `make bench`: servers, and parts that run without one."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from benchmarks import alone
from benchmarks.alone import Rate
from benchmarks.kinds import BENTOML, ECHO, LITSERVE, LOADER_A_BATCH, MOSEC, RAY_SERVE, Document, darkroom
from benchmarks.servers import Server, ServerKind, running
from benchmarks.work import MIXED, PHONE, SMALL, SMALL_ALONE, SMALL_MANY, Work
from harness.command import Facts, say
from harness.load import Load, closed_loop

NO_HAPROXY: Final = {"RAY_SERVE_ENABLE_HA_PROXY": "0", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "0"}
"""Environment variables that override serve.env: Serve's own proxy in front, as without that file."""

STAND_IN_SUFFIX: Final = "stand-in"
"""Suffix of names of contestants with the sleeping device."""


Ask = Callable[[Work], Facts]
"""Runs one load; returns its figures."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """One contestant: a server, or a part that runs without one.

    Args:
        name: name in the table.
        works: its loads.
        started: context manager that starts and ends it.
    """

    name: str
    works: Sequence[Work]
    started: Callable[[], AbstractContextManager[Ask]]


def served(kind: ServerKind, *works: Work) -> Contestant:
    """Make a contestant of a server."""
    return Contestant(kind.name, works, partial(_serve, kind))


@contextmanager
def _serve(kind: ServerKind) -> Iterator[Ask]:
    with running(kind, say) as server:
        yield partial(_asked, server)


def _asked(server: Server, work: Work) -> Facts:
    forms = [server.kind.wrap(image) for image in work.images]
    if work.together > 1:
        if server.kind.many is None:
            raise ValueError(f"{server.name} takes one image a request")
        batches = [work.images[at : at + work.together] for at in range(0, len(work.images), work.together)]
        whole = [list(batch) + list(work.images[: work.together - len(batch)]) for batch in batches]
        forms = [server.kind.many(batch) for batch in whole]
    load = closed_loop(server.target, forms, clients=work.clients, warm_up_s=work.warm_up_s, for_s=work.for_s)
    return _facts_of(load, work)


def _facts_of(load: Load, work: Work) -> Facts:
    if load.others:
        say(f"    not predicted: {dict(load.others)}")
    return {
        "per_s": load.per_s * work.together,
        "p50_ms": 1000 * load.quantile_s(0.5),
        "p99_ms": 1000 * load.quantile_s(0.99),
        "clients_cores": load.clients_cores,
        "lost": dict(load.others),
    }


def by_itself(name: str, context: Callable[[], AbstractContextManager[Rate]], *works: Work) -> Contestant:
    """Make a contestant that runs in this process."""

    @contextmanager
    def started() -> Iterator[Ask]:
        with context() as rate:
            yield lambda work: {"per_s": rate(work.images, work.for_s)}

    return Contestant(name, works, started)


def _with_stand_in(application: Document) -> None:
    """Configure the stand-in device: workers have all the cores, as beside a GPU, and no request is refused."""
    application["import_path"] = "benchmarks.standin:build_app"
    application["args"]["pipeline"].update(
        device="cpu", decode_workers=len(os.sched_getaffinity(0)), concurrent_batches=1
    )
    _refusing_nobody(application)


def _refusing_nobody(application: Document) -> None:
    (deployment,) = application["deployments"]
    deployment["user_config"]["max_queue_wait_s"] = 60.0
    deployment["autoscaling_config"]["max_replicas"] = 1


def _one_by_one(application: Document) -> None:
    """Configure batches of one image."""
    _with_stand_in(application)
    (deployment,) = application["deployments"]
    deployment["user_config"]["max_batch_size"] = 1


def _exact(application: Document) -> None:
    """Configure exact decoding too: the pixels of torchvision's own transform."""
    _one_by_one(application)
    application["args"]["pipeline"]["decode"] = "exact"


def _one_worker(application: Document) -> None:
    """Configure a single decode worker too."""
    _exact(application)
    application["args"]["pipeline"]["decode_workers"] = 1


def _variant(kind: ServerKind, name: str = "", **environment: str) -> ServerKind:
    return replace(kind, name=name or kind.name, environment={**kind.environment, **environment})


def contestants(*, full: bool) -> list[Contestant]:
    """List all contestants in the order of the table: with the stand-in, from a plain loop to the whole of Darkroom.

    The intermediate steps of Darkroom lack the techniques named in the row; each step has one more than the last.

    Args:
        full: also the other peers, the intermediate steps of Darkroom, and photographs of mixed sizes.
    """
    asleep, ours = {"MODEL": "stand-in"}, {"DECODE": "darkroom"}
    each = (SMALL, PHONE, MIXED) if full else (SMALL, PHONE)

    def peer(kind: ServerKind, name: str = "", **environment: str) -> Contestant:
        return served(_variant(kind, f"{name or kind.name}, {STAND_IN_SUFFIX}", **asleep, **environment), *each)

    one_at_a_time = partial(alone.pipeline, together=1, requests=1)

    def step(name: str, change: Callable[[Document], None], **environment: str) -> Contestant:
        return served(_variant(darkroom(f"{name}, {STAND_IN_SUFFIX}", change), **environment), *each)

    def more(*others: Contestant) -> Sequence[Contestant]:
        return others if full else ()

    return [
        by_itself(f"a loop, {STAND_IN_SUFFIX}", alone.loop, *each),
        *more(peer(LOADER_A_BATCH), peer(RAY_SERVE), peer(BENTOML)),
        peer(LITSERVE),
        peer(MOSEC),
        peer(LITSERVE, f"{LITSERVE.name}, our decode", **ours),
        peer(MOSEC, f"{MOSEC.name}, our decode", **ours),
        *more(
            step("Darkroom, one by one, exact, no HAProxy, one worker", _one_worker, **NO_HAPROXY),
            step("Darkroom, one by one, exact, no HAProxy", _exact, **NO_HAPROXY),
            step("Darkroom, one by one, exact", _exact),
            step("Darkroom, one by one", _one_by_one),
        ),
        served(darkroom(f"Darkroom, {STAND_IN_SUFFIX}", _with_stand_in), SMALL_ALONE, SMALL_MANY, *each),
        by_itself(f"pipeline alone, {STAND_IN_SUFFIX}", alone.pipeline, *each),
        *more(
            by_itself(f"pipeline alone, an image at a time, {STAND_IN_SUFFIX}", one_at_a_time, SMALL_ALONE),
            served(ECHO, SMALL_ALONE, SMALL, PHONE),
            by_itself(f"device alone, {STAND_IN_SUFFIX}", alone.stand_in_device, SMALL),
        ),
        *more(served(RAY_SERVE, *each), served(BENTOML, *each)),
        served(LITSERVE, *each),
        served(MOSEC, *each),
        served(darkroom("Darkroom", _refusing_nobody), *each),
        by_itself("model alone", alone.model, SMALL),
    ]
