"""Sends hostile files and connections, and measures the effect on a good client. `make hostile` runs it.

For each kind of costly file, 8 connections send it again and again, and ignore Retry-After. Then come groups of
connections that stay open, one group after the other. Beside them one client sends an ordinary photograph every 0.3 s.
Server, balancer and all clients share the cores, and the clients share an address. The last line is the whole table as
JSON.
"""

import base64
import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from benchmarks.hostile_bodies import clients_with_hostile_bodies
from benchmarks.hostile_clients import HostileClients, connected, hostile_clients
from benchmarks.work import SMALL
from harness import table
from harness.circumstances import circumstances
from harness.command import Facts, parser_of, run, say
from harness.costly_images import COSTLY_FILES, lossless_webp, progressive_jpeg
from harness.load import Load, closed_loop, open_loop
from harness.local_service import LocalService, local_service, one_replica
from harness.resident_memory import Memory
from harness.target import Form, Target, image_body

HOSTILE_CLIENTS: Final = 8
GOOD_REQUEST_INTERVAL_S: Final = 0.3
CONNECTING_TIME_S: Final = 2.0
HEADER: Final = (
    "sent",
    "kB",
    "a second",
    "of these answered",
    "good p50 ms",
    "good p99 ms",
    "good refused or lost",
    "memory + MB",
)


def many_in_json(image: bytes, count: int) -> Form:
    """Make a request with the same image many times."""
    return Form("application/json", json.dumps({"images": [base64.b64encode(image).decode()] * count}).encode())


def kinds() -> Mapping[str, Sequence[Form]]:
    """Return the hostile requests by kind; an empty list stands for the time without a hostile client."""
    raw = {name: [image_body(make())] for name, make in COSTLY_FILES.items()}
    return {
        "nothing": [],
        **raw,
        "all of these in turn": [form for forms in raw.values() for form in forms],
        "photographs": [image_body(image) for image in SMALL.images],
        "webp, 256 small ones in a request": [many_in_json(lossless_webp((400, 400)), 256)],
        "webp, 256 large ones in a request": [many_in_json(lossless_webp((3000, 3000)), 256)],
        "jpeg, 883 scans": [image_body(progressive_jpeg((7040, 7040), 1, 13, bands=63))],
        "no image": [image_body(b"hello")],
    }


def measure_clients(target: Target, clients: HostileClients, for_s: float) -> Facts:
    """Measure a good client's answers beside a group of connections, once all of them should be open."""
    with connected(clients, target):
        threading.Event().wait(CONNECTING_TIME_S)
        good = _good_client(target, for_s)
    return {"sent_per_s": clients.opened / (CONNECTING_TIME_S + for_s), "answered": 0, "otherwise": {}, **good}


def _good_client(target: Target, for_s: float) -> Facts:
    forms = [Form("image/jpeg", image) for image in SMALL.images]
    good = open_loop(target, forms, rate=1 / GOOD_REQUEST_INTERVAL_S, for_s=for_s, chance=None)
    return {
        "good": good.sent,
        "good_p50_ms": 1e3 * good.quantile_s(0.5),
        "good_p99_ms": 1e3 * good.quantile_s(0.99),
        "good_lost": dict(good.others),
    }


def measure(target: Target, forms: Sequence[Form], for_s: float) -> Facts:
    """Measure a good client's answers while connections send these requests, and the outcomes of the requests."""
    hostile = [Load(for_s)]

    def hammer() -> None:
        hostile[0] = closed_loop(target, forms, clients=HOSTILE_CLIENTS, warm_up_s=0.0, for_s=for_s, patient=False)

    thread = threading.Thread(target=hammer)
    if forms:
        thread.start()
    good = _good_client(target, for_s)
    if forms:
        thread.join()
    return {
        "sent_per_s": hostile[0].sent / for_s,
        "answered": len(hostile[0].took_s),
        "otherwise": dict(hostile[0].others),
        **good,
    }


def _settled(service: LocalService) -> None:
    """Wait until the service has no work left; the last requests may take a while."""
    while service.info()["in_work"]:
        threading.Event().wait(0.1)


def measured(service: LocalService, names: Sequence[str], for_s: float) -> Iterator[Facts]:
    """Yield a record for each named kind of file and group of connections."""
    target = service.target
    for name, forms in kinds().items():
        if not names or name in names:
            with Memory(service.processes) as memory:
                facts = measure(target, forms, for_s)
            _settled(service)
            kb = sum(len(form.body) for form in forms) / 1e3 / max(1, len(forms))
            yield {"kind": name, "kb": kb, "grown_bytes": memory.grown_bytes, **facts}
    for name, clients in {**hostile_clients(), **clients_with_hostile_bodies()}.items():
        if not names or name in names:
            with Memory(service.processes) as memory:
                facts = measure_clients(target, clients, for_s)
            _settled(service)
            yield {"kind": name, "kb": 0.0, "grown_bytes": memory.grown_bytes, **facts}


def row(facts: Facts) -> list[str]:
    """Format a row of the table."""
    lost = sum(facts["good_lost"].values())
    return [
        facts["kind"],
        f"{facts['kb']:.1f}",
        f"{facts['sent_per_s']:.0f}",
        str(facts["answered"]),
        f"{facts['good_p50_ms']:.0f}",
        f"{facts['good_p99_ms']:.0f}",
        f"{lost} of {facts['good']}",
        f"{facts['grown_bytes'] / 1e6:.0f}",
    ]


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status."""
    parser = parser_of("benchmarks.hostile", __doc__)
    parser.add_argument("--for-s", type=float, default=10.0, help="seconds a kind")
    parser.add_argument("--only", action="append", default=[], help="a kind, by its name; may be given again")
    options = parser.parse_args(arguments)
    about, records = circumstances("benchmarks.hostile", arguments), list[Facts]()
    with local_service(one_replica(), say) as service:
        for facts in measured(service, options.only, options.for_s):
            records.append(facts)
            say("  ".join(row(facts)))
    sys.stdout.write(table.text(HEADER, [row(facts) for facts in records]))
    sys.stdout.write(json.dumps({**about, "cores": len(os.sched_getaffinity(0)), "kinds": records}) + "\n")
    return 0


if __name__ == "__main__":
    run(main)
