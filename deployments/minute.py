"""The last minute of a replica, second by second."""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from deployments.metrics import PREDICTED
from deployments.timeline import STAGES, Timeline
from deployments.verdict import Load, verdict
from pipeline.errors import Overloaded
from pipeline.usage import Usage

SECONDS: Final = 60
"""What is remembered."""

_PERCENTILES: Final = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Reading:
    """How things stood at one moment."""

    at_s: float  # by `time.monotonic`
    usage: Usage
    loop_s: float  # processor time of the event loop's thread
    cores: int  # that this process may use
    cores_busy: float  # share of them in use since the reading before, by whomever, 0 to 1


@dataclass(slots=True)
class Ended:
    """What ended in about a second."""

    requests: Counter[str] = field(default_factory=Counter)  # by outcome
    images: Counter[str] = field(default_factory=Counter)  # likewise
    took_s: list[float] = field(default_factory=list)  # of each request that was answered
    stages_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))  # of all these together

    def note_answer(self, timeline: Timeline) -> None:
        """A request was answered; of many images some may have been rejected."""
        self.requests[PREDICTED] += 1
        self.took_s.append(timeline.total_s)
        for stage, seconds in timeline.longest().items():
            self.stages_s[stage] += seconds


class Minute:
    """Remembers what ended in the last 60 seconds, and how things stood after each.

    Args:
        reading: how things stand at its beginning.
        device: "cpu" or "cuda".

    Attributes:
        now: what ends in the second that is not over yet.
    """

    def __init__(self, reading: Reading, device: str) -> None:
        self.now = Ended()
        self._device = device
        self._seconds = deque([(Ended(), reading)], SECONDS + 1)

    def __len__(self) -> int:
        """Seconds that are remembered."""
        return len(self._seconds) - 1

    @property
    def last(self) -> Reading:
        """How things stood when the last second was over."""
        return self._seconds[-1][1]

    def tick(self, reading: Reading) -> None:
        """A second is over."""
        self._seconds.append((self.now, reading))
        self.now = Ended()

    def stats(self, seconds: int) -> dict[str, Any]:
        """Figures of the last so many whole seconds, and the verdict on them; of fewer where it is not as old.

        One second must be over.
        """
        (_, first), *rest = list(self._seconds)[-seconds - 1 :]
        last, window_s = rest[-1][1], rest[-1][1].at_s - first.at_s
        requests, images = (sum((getattr(ended, what) for ended, _ in rest), Counter[str]()) for what in _COUNTS)
        took_s = [took for ended, _ in rest for took in ended.took_s]
        stages_s = {stage: sum(ended.stages_s[stage] for ended, _ in rest) for stage in STAGES}
        cores_busy = float(np.mean([reading.cores_busy for _, reading in rest]))
        load = self._load(first, last, cores_busy, requests, stages_s["read"] / max(sum(took_s), 1e-9))
        batches = last.usage.batches
        formed = {size: count - first.usage.batches.get(size, 0) for size, count in batches.items()}
        given = verdict(load)
        return {
            "window_s": window_s,
            "state": given.state,
            "verdict": given.sentence,
            "requests_per_s": load.requests_per_s,
            "images_per_s": images.total() / window_s,
            "requests": dict(requests),
            "images": dict(images),
            "latency_ms": _percentiles_ms(took_s),
            "stages_ms": {stage: 1e3 * total_s / max(len(took_s), 1) for stage, total_s in stages_s.items()},
            "workers": {
                "count": load.workers,
                "busy": load.workers_busy,
                "replaced": last.usage.workers_replaced - first.usage.workers_replaced,
            },
            "device": {
                "kind": self._device,
                "lanes": load.lanes,
                "busy": load.device_busy,
                "images_per_batch": sum(n * c for n, c in formed.items()) / max(sum(formed.values()), 1),
            },
            "event_loop": {"busy": load.loop_busy},
            "cores": {"count": load.cores, "busy": load.cores_busy},
            "in_work": last.usage.in_work,
            "free_slots": last.usage.free_slots,
        }

    def _load(self, first: Reading, last: Reading, cores_busy: float, requests: Counter[str], reading: float) -> Load:
        window_s, usage = last.at_s - first.at_s, last.usage
        return Load(
            requests_per_s=requests.total() / window_s,
            overloaded=requests[Overloaded.__name__] / max(requests.total(), 1),
            reading=reading,
            workers=usage.workers,
            workers_busy=min(1.0, (usage.decoding_s - first.usage.decoding_s) / window_s / usage.workers),
            lanes=usage.lanes,
            device_busy=min(1.0, (usage.computing_s - first.usage.computing_s) / window_s / usage.lanes),
            loop_busy=min(1.0, (last.loop_s - first.loop_s) / window_s),
            cores=last.cores,
            cores_busy=cores_busy,
            on_cpu=self._device == "cpu",
        )


_COUNTS: Final = ("requests", "images")


def _percentiles_ms(took_s: Sequence[float]) -> Mapping[str, float] | None:
    """None where nothing was answered."""
    if not took_s:
        return None
    values = 1e3 * np.percentile(took_s, _PERCENTILES)
    return {f"p{percent}": float(value) for percent, value in zip(_PERCENTILES, values, strict=True)}
