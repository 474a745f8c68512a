"""Counts of the outcomes of all callers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.percentiles import percentile
from tests.soak.callers import Attempt, Record
from tests.soak.judgement import AnswerKind
from tests.soak.traffic import is_plain

Outage = tuple[float, float]
"""Times at which a replica was killed, and at which the service was complete again."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of outcomes; `lost` and `wrong` have one line for each case."""

    callers: int
    requests: int
    images: int
    by_status: Mapping[int, int]  # of requests; 0 is no complete answer
    refused: int  # requests: 503 with Retry-After
    refused_then_answered: int  # callers
    refused_to_the_end: int  # callers
    gone: int  # callers who left or cut their connection on purpose
    late: int  # requests past their own deadline
    in_killed_replica: int  # requests in flight when a replica was killed
    while_replaced: int  # requests that arrived before there was another
    blamed_images: int
    lost: Sequence[str]
    wrong: Sequence[str]
    plain: int  # single images outside bursts, answered at once, on which p50_ms and p99_ms are based
    p50_ms: float
    p99_ms: float


def tally(records: Sequence[Record], outages: Sequence[Outage]) -> Tally:
    """Add up all records."""
    attempts = [attempt for record in records for attempt in record.attempts]
    broken = [(record, attempt) for record in records for attempt in record.attempts if _is(attempt, AnswerKind.BROKEN)]
    killed = [attempt for _, attempt in broken if any(_in_flight(attempt, outage) for outage in outages)]
    replaced = [attempt for _, attempt in broken if any(_came_in(attempt, outage) for outage in outages)]
    explained = {id(attempt) for attempt in (*killed, *replaced)}
    refused = [record for record in records if any(_is(attempt, AnswerKind.REFUSED) for attempt in record.attempts)]
    latencies_ms = [1e3 * (r.attempts[0].ended_s - r.attempts[0].started_s) for r in records if is_plain(r)]
    return Tally(
        callers=len(records),
        requests=len(attempts),
        images=sum(record.images for record in records),
        by_status=dict(sorted(Counter(attempt.status for attempt in attempts).items())),
        refused=sum(_is(attempt, AnswerKind.REFUSED) for attempt in attempts),
        refused_then_answered=sum(not _is(record.attempts[-1], AnswerKind.REFUSED) for record in refused),
        refused_to_the_end=sum(_is(record.attempts[-1], AnswerKind.REFUSED) for record in refused),
        gone=sum(not record.attempts for record in records),
        late=sum(_is(attempt, AnswerKind.LATE) for attempt in attempts),
        in_killed_replica=len(killed),
        while_replaced=len(replaced),
        blamed_images=sum(attempt.verdict.blamed for attempt in attempts if _is(attempt, AnswerKind.BLAMED)),
        lost=[_line(record, attempt) for record, attempt in broken if id(attempt) not in explained],
        wrong=[
            _line(record, attempt)
            for record in records
            for attempt in record.attempts
            if _is(attempt, AnswerKind.WRONG)
        ],
        plain=len(latencies_ms),
        p50_ms=percentile(latencies_ms, 0.5),
        p99_ms=percentile(latencies_ms, 0.99),
    )


def _is(attempt: Attempt, kind: AnswerKind) -> bool:
    return attempt.verdict.kind == kind


def _in_flight(attempt: Attempt, outage: Outage) -> bool:
    return attempt.started_s <= outage[0] <= attempt.ended_s


def _came_in(attempt: Attempt, outage: Outage) -> bool:
    return outage[0] < attempt.started_s <= outage[1]


def _line(record: Record, attempt: Attempt) -> str:
    took_s = attempt.ended_s - attempt.started_s
    what = f"{record.caller} {record.shape} of {record.images}"
    return f"{attempt.started_s:.1f} s: {what}, after {took_s:.1f} s: {attempt.verdict.detail}"
