"""Record of a replica's last minute, second by second."""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from deployments.monitoring.bottleneck import ReplicaLoad, verdict
from deployments.monitoring.demand import demand
from deployments.monitoring.timeline import STAGES
from deployments.request_errors import Overloaded
from pipeline.stats import EngineStats

WINDOW_SECONDS: Final = 60
"""Number of whole seconds that are kept."""

_PERCENTILES: Final = (50, 95, 99)


PREDICTED_OUTCOME: Final = "predicted"
"""The outcome of an image or a request that is neither the name of an error nor `GONE_OUTCOME`."""

GONE_OUTCOME: Final = "ClientGone"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """State of engine and processor at one moment."""

    at_s: float  # by `time.monotonic`
    engine_stats: EngineStats
    loop_s: float  # processor time of the event loop's thread
    process_s: float  # processor time of all threads of the replica's process
    cores: int  # cores that this process may use
    cores_busy: float  # share of them in use since the last reading, by all processes, 0 to 1
    backlog_s: float  # seconds until the work that waits now will be done


@dataclass(slots=True)
class EndedRequests:
    """Requests and images that ended in about one second."""

    requests: Counter[str] = field(default_factory=Counter)  # by outcome
    images: Counter[str] = field(default_factory=Counter)  # by outcome
    took_s: list[float] = field(default_factory=list)  # one for each answered request
    stages_s: list[tuple[float, ...]] = field(
        default_factory=list
    )  # one for each answered request, in the order of `STAGES`

    def note_answer(self, stages_s: tuple[float, ...], took_s: float) -> None:
        """Count an answered request; some of its images may have been rejected."""
        self.requests[PREDICTED_OUTCOME] += 1
        self.took_s.append(took_s)
        self.stages_s.append(stages_s)


@dataclass(frozen=True, slots=True)
class Second:
    """One complete second: the requests and images that ended in it, and the state at its end."""

    requests: Counter[str]
    images: Counter[str]
    took_s: NDArray[np.float64]  # [answers]
    stages_s: NDArray[np.float64]  # [stages], summed over these answers
    snapshot: Snapshot

    @classmethod
    def of(cls, ended: EndedRequests, snapshot: Snapshot) -> Self:
        """Summarize the requests that ended in a second."""
        stages_s = np.array(ended.stages_s, float).reshape(-1, len(STAGES)).sum(0)
        return cls(ended.requests, ended.images, np.array(ended.took_s, float), stages_s, snapshot)


class LastMinute:
    """Remembers the last 60 seconds.

    Args:
        snapshot: state at the start. The second before it counts as idle, so there is always one to report.
        device_kind: "cpu" or "cuda".
        reserved_cores: cores that Ray has reserved for the replica.

    Attributes:
        now: requests and images that have ended in the current second.
    """

    def __init__(self, snapshot: Snapshot, device_kind: str, reserved_cores: float = 0.0) -> None:
        self.now = EndedRequests()
        self._device_kind, self._reserved_cores = device_kind, reserved_cores
        earlier = replace(snapshot, at_s=snapshot.at_s - 1.0)
        self._stats_by_seconds: dict[
            int, dict[str, Any]
        ] = {}  # by number of seconds; computing 60 busy ones takes some milliseconds
        self._seconds = deque(
            (Second.of(EndedRequests(), moment) for moment in (earlier, snapshot)), WINDOW_SECONDS + 1
        )

    @property
    def last(self) -> Snapshot:
        """State at the end of the last complete second."""
        return self._seconds[-1].snapshot

    def tick(self, snapshot: Snapshot) -> EndedRequests:
        """Complete the current second; return the requests and images that ended in it."""
        ended, self.now = self.now, EndedRequests()
        self._seconds.append(Second.of(ended, snapshot))
        self._stats_by_seconds = {}
        return ended

    def stats(self, seconds: int) -> dict[str, Any]:
        """Return figures and verdict for the last `seconds` whole seconds, or for fewer if the replica is younger.

        The result is computed once and kept until the next second is complete.
        """
        if seconds not in self._stats_by_seconds:
            self._stats_by_seconds[seconds] = self._stats(seconds)
        return self._stats_by_seconds[seconds]

    def _stats(self, seconds: int) -> dict[str, Any]:
        before, *rest = list(self._seconds)[-seconds - 1 :]
        first, last = before.snapshot, rest[-1].snapshot
        window_s = last.at_s - first.at_s
        requests = sum((second.requests for second in rest), Counter[str]())
        images = sum((second.images for second in rest), Counter[str]())
        took_s = np.concatenate([second.took_s for second in rest])
        stages_s = np.sum([second.stages_s for second in rest], 0)
        cores_busy = float(np.mean([second.snapshot.cores_busy for second in rest]))
        load = self._load(first, last, cores_busy, requests, float(stages_s[0] / max(took_s.sum(), 1e-9)))
        batches = sum(last.engine_stats.batches.values()) - sum(first.engine_stats.batches.values())
        given = verdict(load)
        is_used = requests.total() or last.engine_stats.in_work  # else it is busy with nothing but its own tests
        growth = (last.backlog_s - first.backlog_s) / window_s
        return {
            "window_s": window_s,
            "state": given.state,
            "verdict": given.sentence,
            "requests_per_s": load.requests_per_s,
            "images_per_s": images.total() / window_s,
            "requests": dict(requests),
            "images": dict(images),
            "latency_ms": _percentiles_ms(took_s),
            "stages_ms": dict(zip(STAGES, (1e3 * stages_s / max(len(took_s), 1)).tolist(), strict=True)),
            "decode_workers": {
                "count": last.engine_stats.decode_workers,
                "at_most": load.most_decoding,
                "busy": load.workers_busy,
                "replaced": last.engine_stats.workers_replaced - first.engine_stats.workers_replaced,
            },
            "device": {
                "kind": self._device_kind,
                "concurrent_batches": load.concurrent_batches,
                "busy": load.device_busy,
                "images_per_batch": (last.engine_stats.images - first.engine_stats.images) / max(batches, 1),
            },
            "interpreter": {"busy": load.interpreter_busy},
            "event_loop": {"busy": _share(first.loop_s, last.loop_s, window_s)},
            "cores": {"count": load.cores, "busy": load.cores_busy},
            "backlog_s": last.backlog_s,
            "demand": (
                demand(busy=load.used, refused=load.overloaded, backlog_s=last.backlog_s, growth=growth)
                if is_used
                else 0.0
            ),
            "in_work": last.engine_stats.in_work,
            "free_slots": last.engine_stats.free_slots,
        }

    def _load(
        self, first: Snapshot, last: Snapshot, cores_busy: float, requests: Counter[str], reading: float
    ) -> ReplicaLoad:
        window_s, engine_stats = last.at_s - first.at_s, last.engine_stats
        return ReplicaLoad(
            requests_per_s=requests.total() / window_s,
            overloaded=requests[Overloaded.__name__] / max(requests.total(), 1),
            reading=reading,
            most_decoding=engine_stats.most_decoding,
            workers_busy=min(
                1.0, (engine_stats.decoding_s - first.engine_stats.decoding_s) / window_s / engine_stats.most_decoding
            ),
            concurrent_batches=engine_stats.concurrent_batches,
            device_busy=min(
                1.0,
                (engine_stats.computing_s - first.engine_stats.computing_s)
                / window_s
                / engine_stats.concurrent_batches,
            ),
            interpreter_busy=(
                _share(first.loop_s, last.loop_s, window_s)
                if self._device_kind == "cpu"
                else _share(first.process_s, last.process_s, window_s)
            ),
            reserved_cores=self._reserved_cores,
            cores=last.cores,
            cores_busy=cores_busy,
            on_cpu=self._device_kind == "cpu",
        )


def _share(before_s: float, after_s: float, window_s: float) -> float:
    """Compute the share of one core that a thread or process used."""
    return min(1.0, (after_s - before_s) / window_s)


def _percentiles_ms(took_s: NDArray[np.float64]) -> Mapping[str, float] | None:
    """Compute percentiles in milliseconds; None if no request was answered."""
    if not len(took_s):
        return None
    values = 1e3 * np.percentile(took_s, _PERCENTILES)
    return {f"p{percent}": float(value) for percent, value in zip(_PERCENTILES, values, strict=True)}
