"""Measures a service from one client to twice what it can answer, by `max_queue_wait_s`. `make overload` runs it.

Closed-loop clients, as in `wrk` and `hey`, send the next request at once and ignore Retry-After. Open-loop requests
come at random times, at 0.5, 0.8 and 2 times the capacity, whether or not earlier ones have been answered: below the
capacity these rows show the latency, above it the refusals. The service is the shipped one with one replica, its model
and photographs; `max_queue_wait_s` is changed while it runs. The speed of a machine drifts, so each row is compared
with 16 clients that are measured before and after it.

At the end the cost of a refusal in the replica is compared with the cost of an empty request in Ray Serve alone.
"""

import json
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import httpx
import psutil

from benchmarks.kinds import ECHO
from benchmarks.servers import running
from benchmarks.work import PHONE, SMALL, Work
from deployments.live_config import LiveConfig
from harness import table
from harness.circumstances import circumstances
from harness.command import RESULTS, Facts, parser_of, run, say, write
from harness.load import Load, closed_loop, open_loop
from harness.local_service import LocalService, local_service, one_replica
from harness.resident_memory import Memory
from harness.target import Form, Target, form_body, image_body

DEFAULT_QUEUE_WAIT_S: Final = LiveConfig().max_queue_wait_s
CAPACITY_SHARES: Final = (0.5, 0.8, 2.0)
"""Rates of random requests, as shares of the capacity."""

REFERENCE_CLIENTS: Final = 16
"""Clients that each row is compared with: enough to keep the service busy, few enough to have no refusals."""

HEADER: Final = (
    "photographs",
    "load",
    "max_queue_wait_s",
    "predictions/s",
    f"of {REFERENCE_CLIENTS} clients'",
    "refused",
    "refusals/s",
    "p50 ms",
    "p99 ms",
    "otherwise lost",
    "memory",
)
COST_HEADER: Final = ("what", "processor time of a request, ms", "requests/s")

WITHOUT_MIDDLEWARE: Final = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": ""}


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """Loads and settings of a run, and how long each is measured.

    Args:
        waits_s: values of `max_queue_wait_s`.
        clients: numbers of closed-loop clients, by load.
        for_s: duration of a closed-loop row.
        open_for_s: duration of an open-loop row above the capacity: the queue fills within `max_queue_wait_s`.
        beside_for_s: duration of the comparison clients.
    """

    waits_s: Sequence[float]
    clients: Sequence[tuple[Work, Sequence[int]]]
    for_s: float
    open_for_s: float
    beside_for_s: float


FULL_PLAN: Final = LoadPlan(
    waits_s=(0.25, 2.5, 10.0),
    clients=((SMALL, (1, 8, 16, 32, 64, 128, 256)), (PHONE, (16, 64))),
    for_s=6.0,
    open_for_s=30.0,
    beside_for_s=2.0,
)
QUICK_PLAN: Final = replace(
    FULL_PLAN, waits_s=(0.25, DEFAULT_QUEUE_WAIT_S), clients=((SMALL, (64,)), (PHONE, (16,))), for_s=3.0, open_for_s=8.0
)


# ---- the table ------------------------------------------------------------------------------------------------------


def measured(service: LocalService, plan: LoadPlan) -> Iterator[Facts]:
    """Yield a record for each row."""
    for max_queue_wait_s in plan.waits_s:
        service.apply(max_queue_wait_s=max_queue_wait_s)
        for work, counts in plan.clients:
            forms = [image_body(image) for image in work.images]
            for clients in counts:
                yield _held_against(service, forms, plan, _Closed(work, clients), max_queue_wait_s)
            if max_queue_wait_s in (plan.waits_s[0], DEFAULT_QUEUE_WAIT_S):
                for share in CAPACITY_SHARES:
                    yield _held_against(service, forms, plan, _Open(work, share), max_queue_wait_s)


@dataclass(frozen=True, slots=True)
class _Closed:
    work: Work
    clients: int

    @property
    def title(self) -> str:
        return f"{self.clients} clients"

    def load(self, target: Target, forms: Sequence[Form], plan: LoadPlan, capacity_per_s: float) -> Load:
        warm_up_s = 1.0 + 1.5 * self.clients / max(1.0, capacity_per_s)  # at first all of them send at once
        return closed_loop(target, forms, clients=self.clients, warm_up_s=warm_up_s, for_s=plan.for_s, patient=False)


@dataclass(frozen=True, slots=True)
class _Open:
    work: Work
    share: float  # of the capacity

    @property
    def title(self) -> str:
        return f"{self.share:.0%} of the capacity, by chance"

    def load(self, target: Target, forms: Sequence[Form], plan: LoadPlan, capacity_per_s: float) -> Load:
        began_s, chance = time.perf_counter(), random.Random(0)
        for_s = plan.open_for_s if self.share > 1 else plan.for_s
        load = open_loop(target, forms, rate=self.share * capacity_per_s, for_s=for_s, chance=chance)
        load.for_s = time.perf_counter() - began_s  # the last answers come after the last requests
        return load


def _held_against(
    service: LocalService, forms: Sequence[Form], plan: LoadPlan, row: _Closed | _Open, max_queue_wait_s: float
) -> Facts:
    def beside() -> float:
        return closed_loop(
            service.target, forms, clients=REFERENCE_CLIENTS, warm_up_s=1.0, for_s=plan.beside_for_s
        ).per_s

    before_per_s = beside()
    with Memory(service.processes) as memory:
        load = row.load(service.target, forms, plan, before_per_s)
    capacity_per_s = statistics.mean((before_per_s, beside()))
    return {
        "photographs": row.work.title.partition(",")[0],
        "load": row.title,
        "max_queue_wait_s": max_queue_wait_s,
        "capacity_per_s": capacity_per_s,
        "grown_bytes": memory.grown_bytes,
        **of(load, capacity_per_s),
    }


def of(load: Load, capacity_per_s: float) -> Facts:
    """Make the record of one load: answers, refusals, waiting times."""
    return {
        "good_per_s": load.per_s,
        "of_capacity": load.per_s / max(1.0, capacity_per_s),
        "sent": load.sent,
        "refused": load.refused,
        "refused_per_s": load.refused / load.for_s,
        "lost": sum(load.others.values()) - load.refused,
        "p50_ms": 1e3 * load.quantile_s(0.5),
        "p99_ms": 1e3 * load.quantile_s(0.99),
        "others": dict(load.others),
    }


def row(facts: Facts) -> list[str]:
    """Format a row of the table."""
    return [
        facts["photographs"],
        facts["load"],
        f"{facts['max_queue_wait_s']:g}",
        f"{facts['good_per_s']:.1f}",
        f"{facts['of_capacity']:.2f}",
        f"{facts['refused'] / max(1, facts['sent']):.1%}",
        f"{facts['refused_per_s']:.0f}",
        f"{facts['p50_ms']:.0f}",
        f"{facts['p99_ms']:.0f}",
        str(facts["lost"]),
        f"{facts['grown_bytes'] / 1e6:+.0f} MB",
    ]


# ---- the cost of a refusal ------------------------------------------------------------------------------------------


def costs(for_s: float) -> Iterator[Facts]:
    """Yield the processor time of an empty request in Serve, and of refusals ahead of Serve and in the application."""
    forms = [image_body(image) for image in SMALL.images]
    with running(ECHO, say) as server:
        (replica,) = server.players("model")
        idle_s = _processor_s(replica, lambda: time.sleep(for_s))
        load = Load(for_s)

        def ask() -> None:
            nonlocal load
            load = closed_loop(
                server.target, forms, clients=REFERENCE_CLIENTS, warm_up_s=0.0, for_s=for_s, patient=False
            )

        used_s = _processor_s(replica, ask) - idle_s
        yield {"what": "Serve alone, a request that does nothing", "ms": 1e3 * used_s / load.sent, "per_s": load.per_s}
    yield {"what": "a refusal ahead of Serve", **_refusing(for_s)}
    yield {"what": "a refusal by the application, without serve.env", **_refusing(for_s, **WITHOUT_MIDDLEWARE)}


def _processor_s(process: psutil.Process, act: Callable[[], None]) -> float:
    before = process.cpu_times()
    act()
    after = process.cpu_times()
    return float(after.user + after.system - before.user - before.system)


def _refusing(for_s: float, **environment: str) -> Facts:
    """Processor time of the event loop for a refusal, while others wait: 32 requests of 24 images.

    The time of the whole process would include the model, so only the event loop's thread counts. Refused requests have
    a time limit of 0.1 s, which would pass in the queue; they are refused at once.
    """
    together = [form_body(list(SMALL.images[:24]))]
    short = [Form("application/octet-stream\r\nX-Request-Timeout-Ms: 100", image) for image in SMALL.images]
    patient = one_replica()
    patient["applications"][0]["deployments"][0]["user_config"]["max_queue_wait_s"] = 60.0
    with local_service(patient, say, **environment) as service:

        def work() -> None:
            closed_loop(service.target, together, clients=32, warm_up_s=0.0, for_s=for_s + 2.0)

        others = threading.Thread(target=work)
        others.start()
        time.sleep(2.0)
        idle = _loop(service, 1)
        load = closed_loop(service.target, short, clients=REFERENCE_CLIENTS, warm_up_s=0.0, for_s=for_s, patient=False)
        busy = _loop(service, int(for_s) - 1)
        others.join()
    refused = busy["requests"].get("Overloaded", 0)
    used_s = (busy["event_loop"]["busy"] - idle["event_loop"]["busy"]) * busy["window_s"]
    return {"ms": 1e3 * used_s / max(1, refused), "per_s": load.refused / for_s, "others": dict(load.others)}


def _loop(service: LocalService, seconds: int) -> Facts:
    url = f"{service.endpoint.url}/stats"
    stats: Facts = httpx.get(url, params={"seconds": seconds}, trust_env=False, timeout=30).raise_for_status().json()
    return stats


def cost_row(facts: Facts) -> list[str]:
    """Format a row of the table of costs."""
    return [facts["what"], f"{facts['ms']:.2f}", f"{facts['per_s']:.0f}"]


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status."""
    parser = parser_of("benchmarks.overload", __doc__)
    parser.add_argument("--quick", action="store_true", help="a few rows, to see that it works")
    parser.add_argument("--only", choices=("table", "costs"), help="one of both parts")
    options = parser.parse_args(arguments)
    plan = QUICK_PLAN if options.quick else FULL_PLAN
    about, records, cost = circumstances("benchmarks.overload", arguments), list[Facts](), list[Facts]()
    if options.only != "costs":
        with local_service(one_replica(), say) as service:
            for record in measured(service, plan):
                records.append(record)
                say("  ".join(row(record)))
    if options.only != "table":
        for record in costs(max(4.0, plan.for_s / 2)):
            cost.append(record)
            say("  ".join(cost_row(record)))
    rows, cost_rows = [row(record) for record in records], [cost_row(record) for record in cost]
    if not options.quick:
        page = table.markdown(HEADER, rows) + "\n" + table.markdown(COST_HEADER, cost_rows)
        write(RESULTS / "overload", [about, *records, *cost], page)
    sys.stdout.write(table.text(HEADER, rows) + table.text(COST_HEADER, cost_rows))
    sys.stdout.write(json.dumps({**about, "rows": records, "costs": cost}) + "\n")
    return 0


if __name__ == "__main__":
    run(main)
