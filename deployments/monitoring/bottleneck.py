"""The bottleneck of a replica, in one sentence.

The states, checked in this order:

1. *overloaded*: more than 1 % of the requests were refused because too many were waiting.
2. *interpreter-bound*: the Python of the replica, which reads and writes HTTP and feeds workers and device, keeps a
   core busy for 85 % of the time or more, and neither workers nor device are busier.
3. *decode-bound* or *device-bound*: workers or device, whichever are busier, are busy for 85 % of the time or more, or
   all cores of the machine are in use.
4. *network-bound*: none of these, and more than half of the time of requests is spent on receiving their bodies.
5. *idle*: no part is busy for 10 % of the time.
6. *unsaturated*: none of these.

A worker is busy while it decodes, the device while it has a batch, both in wall-clock time: if more threads are ready
than there are cores, waiting for a core counts as busy. The interpreter is measured in processor time. It runs one
thread at a time, so with a GPU all threads of the replica's process share one core. If the CPU computes the model, the
model's threads run beside the interpreter, and only the event loop's thread counts.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

BUSY_FROM_SHARE: Final = 0.85
IDLE_BELOW_SHARE: Final = 0.10
OVERLOADED_ABOVE_REFUSED_SHARE: Final = 0.01
NETWORK_BOUND_ABOVE_READING_SHARE: Final = 0.5
CORES_FULL_FROM_SHARE: Final = 0.95


class State(StrEnum):
    """State of a replica over a time window."""

    OVERLOADED = "overloaded"
    INTERPRETER_BOUND = "interpreter-bound"
    NETWORK_BOUND = "network-bound"
    DECODE_BOUND = "decode-bound"
    DEVICE_BOUND = "device-bound"
    IDLE = "idle"
    UNSATURATED = "unsaturated"


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """Load of a replica over a time window; shares are of that window, 0 to 1."""

    requests_per_s: float
    overloaded: float  # share of requests refused because too many were waiting
    reading: float  # share of the time of answered requests spent on receiving their bodies
    most_decoding: int  # workers at a time at most, as in `EngineStats`
    workers_busy: float
    concurrent_batches: int  # batches that the device computes at a time
    device_busy: float
    interpreter_busy: float  # Python in the replica's process
    reserved_cores: float  # that Ray has reserved for the replica
    cores: int  # cores that this process may use
    cores_busy: float  # share of these cores in use, by all processes
    on_cpu: bool  # whether the device computes on these cores

    @property
    def busiest(self) -> float:
        """Busy share of the busiest part."""
        return max(self.workers_busy, self.device_busy, self.interpreter_busy)

    @property
    def used(self) -> float:
        """Share of the replica that its work takes: that of the busiest part, or of all its cores on a CPU.

        There workers and model share the cores, so their work counts together. Both are also busy while they wait for a
        core, so it counts only as far as cores are in use.
        """
        if not self.on_cpu:
            return self.busiest
        at_work = self.most_decoding * self.workers_busy + self.concurrent_batches * self.device_busy
        own_cores = max(self.most_decoding, self.concurrent_batches, self.reserved_cores)
        return max(self.busiest, min(1.0, min(at_work, self.cores * self.cores_busy) / own_cores))

    @property
    def workers_that_help(self) -> int:
        """Number of additional workers that would be busy before the device is full, and that have free cores."""
        if not self.device_busy:
            return 0
        until_full = round(self.most_decoding * self.workers_busy / self.device_busy) - self.most_decoding
        cores_each = 1 + (self.concurrent_batches * self.device_busy / self.most_decoding if self.on_cpu else 0)
        return max(0, min(until_full, math.floor(self.cores * (1 - self.cores_busy) / cores_each)))


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """The state, and a sentence with the reason and a remedy."""

    state: State
    sentence: str


def verdict(load: ReplicaLoad) -> Bottleneck:
    """Determine the bottleneck by the rules at the top of this module."""
    bound, why = _bound(load)
    if load.overloaded > OVERLOADED_ABOVE_REFUSED_SHARE:
        words = f"{load.overloaded:.0%} of the requests were refused; {_shares(load)}; another replica would help"
        return Bottleneck(State.OVERLOADED, f"{State.OVERLOADED}: {words}")
    if bound:
        return Bottleneck(bound, f"{bound}: {why}")
    if load.reading > NETWORK_BOUND_ABOVE_READING_SHARE:
        words = f"{load.reading:.0%} of the time of requests is spent on receiving their bodies; {_shares(load)}"
        return Bottleneck(State.NETWORK_BOUND, f"{State.NETWORK_BOUND}: {words}")
    if load.busiest < IDLE_BELOW_SHARE:
        return Bottleneck(State.IDLE, f"{State.IDLE}: {load.requests_per_s:.3g} requests/s; {_shares(load)}")
    times = min(1 / load.busiest, 1 / max(load.cores_busy, IDLE_BELOW_SHARE))
    words = f"{_shares(load)}; about {times:.1f} times the load would fit"
    return Bottleneck(State.UNSATURATED, f"{State.UNSATURATED}: {words}")


def _bound(load: ReplicaLoad) -> tuple[State | None, str]:
    busiest = max(load.workers_busy, load.device_busy)
    if load.interpreter_busy >= BUSY_FROM_SHARE and load.interpreter_busy > busiest:
        words = f"the replica's Python is {load.interpreter_busy:.0%} busy, {_shares(load)}; another replica would help"
        return State.INTERPRETER_BOUND, words
    in_use = load.cores_busy >= CORES_FULL_FROM_SHARE and busiest >= IDLE_BELOW_SHARE
    if busiest < BUSY_FROM_SHARE and not in_use:
        return None, ""
    if load.workers_busy > load.device_busy:
        return State.DECODE_BOUND, f"{_shares(load)}; {_more_workers(load)}"
    words = f"device {load.device_busy:.0%} busy, workers {load.workers_busy:.0%}; more workers would not help, "
    return State.DEVICE_BOUND, words + ("more cores would" if load.on_cpu else "another GPU or a faster dtype would")


def _more_workers(load: ReplicaLoad) -> str:
    more = load.workers_that_help
    if more:
        return f"{more} more worker{'s' if more > 1 else ''} would help {_until(load, more)}"
    if load.cores_busy >= CORES_FULL_FROM_SHARE or load.cores * (1 - load.cores_busy) < 1:
        return f"the {load.cores} cores are in use, so only more cores would help"
    return "the device is nearly full too"


def _until(load: ReplicaLoad, more: int) -> str:
    share = load.device_busy * (load.most_decoding + more) / load.most_decoding
    return (
        "until the device is full"
        if share >= BUSY_FROM_SHARE
        else f"and there are cores for no more (device {share:.0%} then)"
    )


def _shares(load: ReplicaLoad) -> str:
    return f"workers {load.workers_busy:.0%} busy, device {load.device_busy:.0%}"
