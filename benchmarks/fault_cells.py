"""Cells of the table of faults: summaries of all runs of one fault against one server."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

Facts = Mapping[str, Any]


def neighbours(runs: Sequence[Facts]) -> str:
    """Summarize good images without a prediction, and the answers to the bad one."""
    return f"{_lost(runs, 'good')}; the bad one: {_counts(run['bad_got'] for run in runs)}"


def neighbours_and_memory(runs: Sequence[Facts]) -> str:
    """Summarize good images without a prediction, the answers to the bad one, and memory."""
    return f"{neighbours(runs)}; +{_megabytes(runs)} MB"


def kills(runs: Sequence[Facts]) -> str:
    """Summarize requests without a prediction, and the time until the next prediction."""
    back = [run["answers_after_s"] for run in runs]
    seconds = [second for second in back if second is not None]
    again = f"answers after {statistics.median(seconds):.1f} s" if seconds else ""
    never = f"not within 60 s, {back.count(None)} of {len(back)} times" if None in back else ""
    return "; ".join(part for part in (_lost(runs, "sent"), again, never) if part)


def gone(runs: Sequence[Facts]) -> str:
    """Summarize the wait of the next client."""
    after_s, idle_s = _median(runs, "after_s"), _median(runs, "idle_s")
    return f"answered after {after_s:.2f} s (idle: {idle_s:.2f} s)"


def overload(runs: Sequence[Facts]) -> str:
    """Summarize shares of answered, refused and failed requests, waits and memory."""
    sent = sum(run["sent"] for run in runs)
    shares = {name: sum(run[name] for run in runs) / sent for name in ("good", "refused", "failed")}
    parts = ", ".join(f"{share:.0%} {name}" for name, share in shares.items())
    waits = f"p50 {_median(runs, 'p50_s'):.1f} s, p99 {_median(runs, 'p99_s'):.1f} s"
    return f"{_median(runs, 'capacity_per_s'):.0f}/s alone; {parts}; {waits}; +{_megabytes(runs)} MB"


def _lost(runs: Sequence[Facts], whole: str) -> str:
    lost = sum(run["lost"] for run in runs)
    got = Counter[str]()
    for run in runs:
        got.update(run.get("lost_got", {}))
    return f"{lost} of {sum(run[whole] for run in runs)} lost" + (f" ({_counts([got])})" if got else "")


def _counts(many: Any) -> str:
    """List the names, the most frequent first."""
    got = Counter[str]()
    for one in many:
        got.update(one)
    return ", ".join(name for name, _ in got.most_common())


def _median(runs: Sequence[Facts], name: str) -> float:
    return float(statistics.median(run[name] for run in runs))


def _megabytes(runs: Sequence[Facts]) -> int:
    return round(_median(runs, "grown_bytes") / 1e6)
