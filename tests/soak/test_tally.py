"""Tests of counting the outcomes of the callers of a soak."""

from tests.soak.judgement import AnswerKind
from tests.soak.soaking import attempt, record
from tests.soak.tally import tally
from tests.soak.traffic import is_burst, is_plain


def test_only_what_a_killed_replica_explains_is_not_lost() -> None:
    """A broken request is not lost if it was in flight when a replica was killed, or came before there was another."""
    outages = [(100.0, 120.0)]
    records = [
        record(attempt(99, 100.2, AnswerKind.BROKEN)),
        record(attempt(110, 115, AnswerKind.BROKEN, 500)),
        record(attempt(98, 99.9, AnswerKind.BROKEN)),
        record(attempt(121, 122, AnswerKind.BROKEN)),
        record(attempt(99, 130, AnswerKind.RIGHT, 200)),
    ]
    found = tally(records, outages)
    assert (found.in_killed_replica, found.while_replaced) == (1, 1)
    assert [line.split()[0] for line in found.lost] == ["98.0", "121.0"]
    assert found.by_status == {0: 3, 200: 1, 500: 1}


def test_refused_callers_are_answered_or_not() -> None:
    refused, right = attempt(0, 1, AnswerKind.REFUSED, 503), attempt(2, 3, AnswerKind.RIGHT, 200)
    found = tally([record(refused, right), record(refused, refused), record(caller="gone")], [])
    assert (found.refused, found.refused_then_answered, found.refused_to_the_end, found.gone) == (3, 1, 1, 1)
    assert found.lost == found.wrong == []


def test_latencies_are_those_of_single_images_outside_bursts() -> None:
    """Only single images outside bursts count for latency.

    A burst begins at 30 s of each minute and is over 25 s later.
    """
    right = attempt(90.5, 90.6, AnswerKind.RIGHT)
    assert [at_s for at_s in range(100) if is_burst(at_s)] == [*range(30, 35), *range(90, 95)]
    assert not is_plain(record(right))
    quiet = record(attempt(10.0, 10.5, AnswerKind.RIGHT))
    assert is_plain(quiet)
    assert not is_plain(record(*quiet.attempts, caller="slow"))
    found = tally([quiet, quiet, record(right)], [])
    assert (found.plain, found.p50_ms, found.p99_ms) == (2, 500.0, 500.0)
