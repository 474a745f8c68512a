"""The findings of a soak as a page and as JSON."""

import platform
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from deployments.version import version_of
from harness.circumstances import machine
from harness.roles import DARKROOM
from tests.soak.census import Reading
from tests.soak.growth import TOLERANCE, Growth
from tests.soak.injections import FLOOD, KILL_REPLICA, KILL_WORKER, STOP_WORKER, Event
from tests.soak.tally import Tally

FIRST_S: Final = 60.0
"""Duration of the warm-up; the table's start is its end."""

_MIB: Final = 1 << 20
_COLUMNS: Final = {
    "fds": ("fds", 1),
    "threads": ("threads", 1),
    "shared_bytes": ("shared MiB", _MIB),
    "private_bytes": ("private MiB", _MIB),
}


@dataclass(frozen=True, slots=True)
class Soaked:
    """Findings of a run."""

    command: str
    date: str
    for_s: float
    capacity: float  # requests a second
    device: str
    tally: Tally
    held_back: int
    events: Sequence[Event]
    worker_restarts: int
    replica_restarts: int
    readings: Sequence[Reading]
    growths: Sequence[Growth]
    faults: Sequence[str]
    notes: Sequence[str]  # Ray's own processes, which are no faults


def as_page(soaked: Soaked) -> str:
    """Return the page in Markdown."""
    verdict = "Nothing lost, nothing wrong, nothing left, nothing growing." if not soaked.faults else "FAULTS:"
    return "\n".join(
        [
            "# Soak",
            "",
            f"{soaked.date}, {soaked.for_s / 60:.1f} minutes: `{soaked.command}`",
            "",
            *(f"- {line}" for line in _machine(soaked)),
            "",
            f"**{verdict}**",
            "",
            *(f"- {fault}" for fault in soaked.faults),
            *(f"- Ray's own, no fault: {note}" for note in soaked.notes),
            "",
            *_counts(soaked),
            "",
            *_processes(soaked.readings),
            "",
            *_growths(soaked.growths),
            "",
        ]
    )


def as_document(soaked: Soaked) -> dict[str, Any]:
    """Return the findings without single readings, for a program to read."""
    tally = {name: getattr(soaked.tally, name) for name in soaked.tally.__slots__}
    return {
        "command": soaked.command,
        "date": soaked.date,
        "for_s": soaked.for_s,
        "machine": _machine(soaked),
        "capacity_requests_per_s": soaked.capacity,
        "tally": {**tally, "held_back": soaked.held_back},
        "restarts": {"workers": soaked.worker_restarts, "replicas": soaked.replica_restarts},
        "events": [{name: getattr(event, name) for name in event.__slots__} for event in soaked.events],
        "processes": {moment: _sums(readings) for moment, readings in _moments(soaked.readings).items()},
        "growth": [
            {"role": g.role, "quantity": g.quantity, "within": g.within, "across": g.across} for g in soaked.growths
        ],
        "faults": list(soaked.faults),
        "notes": list(soaked.notes),
    }


def _machine(soaked: Soaked) -> list[str]:
    packages, here = ("darkroom", "ray", "torch", "torchvision", "pillow", "httpx"), machine()
    return [
        f"{here['cores']} cores ({here['cpu']}), {here['memory_gib']} GiB, device {soaked.device}, "
        f"Linux {platform.release()}",
        f"Python {platform.python_version()}, " + ", ".join(f"{package} {version_of(package)}" for package in packages),
    ]


def _counts(soaked: Soaked) -> Iterable[str]:
    tally, events = soaked.tally, soaked.events

    def done(kind: str) -> int:
        return sum(event.kind == kind for event in events)

    yield from ("| | |", "|---|---:|")
    rows: dict[str, object] = {
        "capacity at the start, requests/s": f"{soaked.capacity:.1f}",
        "callers": tally.callers,
        "requests": tally.requests,
        "images": tally.images,
        **{f"answers {status or 'none complete'}": count for status, count in tally.by_status.items()},
        "refused with Retry-After, requests": tally.refused,
        "refused, then answered, callers": tally.refused_then_answered,
        "refused to the end, callers": tally.refused_to_the_end,
        "past their own deadline (504)": tally.late,
        "callers gone before the answer": tally.gone,
        "in a killed replica, requests": tally.in_killed_replica,
        "while it was replaced, requests": tally.while_replaced,
        "images blamed for a stopped worker": tally.blamed_images,
        "**lost**": len(tally.lost),
        "**wrong**": len(tally.wrong),
        "workers killed / stopped / restarts": f"{done(KILL_WORKER)} / {done(STOP_WORKER)} / {soaked.worker_restarts}",
        "replicas killed / restarts": f"{done(KILL_REPLICA)} / {soaked.replica_restarts}",
        "reconfigurations": done("reconfigure"),
        "floods of costly images": done(FLOOD),
        "callers held back": soaked.held_back,
        f"single images outside bursts ({tally.plain}), p50 / p99 ms": f"{tally.p50_ms:.0f} / {tally.p99_ms:.0f}",
    }
    yield from (f"| {name} | {value} |" for name, value in rows.items())


def _processes(readings: Sequence[Reading]) -> Iterable[str]:
    """Yield a line for each role: start -> middle -> end (difference), in sums over its processes."""
    moments = [_sums(at) for at in _moments(readings).values()]
    names = [name for name, _ in _COLUMNS.values()]
    yield "| role (sums over its processes) | number | " + " | ".join(names) + " |"
    yield "|---|" + "---:|" * (len(names) + 1)
    for role in _in_order({role for moment in moments for role in moment}):
        cells = [_cell([moment.get(role, {}).get("number", 0) for moment in moments])]
        for key, (_, unit) in _COLUMNS.items():
            cells.append(_cell([moment.get(role, {}).get(key, 0) / unit for moment in moments]))
        yield f"| {role} | " + " | ".join(cells) + " |"


def _cell(values: Sequence[float]) -> str:
    return " → ".join(f"{value:.0f}" for value in values) + f" ({values[-1] - values[0]:+.0f})"


def _moments(readings: Sequence[Reading]) -> dict[str, list[list[Reading]]]:
    """Return three censuses each for start, middle and end; their median ignores a worker that is restarting."""
    by_time: defaultdict[float, list[Reading]] = defaultdict(list)
    for reading in readings:
        by_time[reading.at_s].append(reading)
    warm = [at for at_s, at in sorted(by_time.items()) if at_s >= FIRST_S] or list(by_time.values())
    middle = max(0, len(warm) // 2 - 1)
    return {"start": warm[:3], "middle": warm[middle : middle + 3], "end": warm[-3:]}


def _sums(censuses: Sequence[Sequence[Reading]]) -> dict[str, dict[str, float]]:
    """Return by role the median, over the censuses, of the sums over its processes."""
    roles = {reading.role for census in censuses for reading in census}

    def middle(role: str, quantity: str) -> float:
        sums = (sum(getattr(r, quantity) if quantity else 1 for r in census if r.role == role) for census in censuses)
        return statistics.median(sums)

    return {role: {"number": middle(role, ""), **{key: middle(role, key) for key in _COLUMNS}} for role in roles}


def _growths(growths: Sequence[Growth]) -> Iterable[str]:
    """Yield the growth of Darkroom's roles against their tolerance, and that of Ray's for the record."""
    yield "Growth in the later two thirds, by the rule in `tests/soak/growth.py`; -: too little to tell, or no heir."
    yield from ("", "| role | quantity | within | across successors | tolerance |", "|---|---|---:|---:|---:|")
    for growth in growths:
        unit = _COLUMNS[growth.quantity][1]
        limit = TOLERANCE.get(growth.role, {}).get(growth.quantity)
        if limit is None and not any((growth.within, growth.across)):
            continue
        numbers = ("-" if n is None else f"{n / unit:+.1f}" for n in (growth.within, growth.across))
        told = "Ray's own" if limit is None else f"{limit / unit:.0f}"
        yield f"| {growth.role} | {_COLUMNS[growth.quantity][0]} | {' | '.join(numbers)} | {told} |"


def _in_order(roles: Iterable[str]) -> list[str]:
    return sorted(roles, key=lambda role: (DARKROOM.index(role) if role in DARKROOM else len(DARKROOM), role))
