"""Tests of proving settings before they are written."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import pytest

from tests.tuning.measured import PRESENT, seen
from tests.tuning.test_sentences import finished
from tuning.findings import Findings
from tuning.forecast import Refused
from tuning.load_check import LoadCheck, LoadResult
from tuning.proving import Proving
from tuning.replica_settings import Settings
from tuning.step import Step


class _Service:
    """Stands in for a service of 60 images/s, which changes its speed once it has the settings to be written."""

    def __init__(self, bound_s: float, slower: float, *, refuses: bool = False) -> None:
        self.bound_s, self._slower, self._refuses = bound_s, slower, refuses
        self._times, self.last_others, self.expected = 1.0, "9 times 503", 0.0

    def apply(self, settings: Settings) -> None:
        self._times = 1.0 if settings.max_queue_wait_s == 60.0 else self._slower

    def closed_loop(self, settings: Settings, clients: int, for_s: float) -> LoadResult:  # noqa: ARG002
        refused = 9 if self._refuses and self._times > 1 else 0
        return seen(settings, clients=clients, p99_s=self._times * clients / 60, refused=refused)

    def open_loop(self, settings: Settings, rate: float, for_s: float) -> LoadResult:  # noqa: ARG002
        return seen(settings, offered=rate, p99_s=2.3 / (60 - rate))

    def verdict(self, seconds: int) -> str:  # noqa: ARG002
        return "idle"


def _proved(asked_s: float | None, slower: float = 1.0, **service: bool) -> Findings:
    findings, steps = finished(asked_s), list[Step]()
    findings.chosen = replace(PRESENT, max_queue_wait_s=60.0)
    check = cast(LoadCheck, _Service(asked_s or 0.5, slower, **service))

    def before_all(new: Sequence[Step]) -> None:
        steps[:0] = new

    proving = Proving(check, findings, 1.0, 256, before_all)
    if asked_s is not None:
        before_all(proving.holding())
        while steps:
            steps.pop(0).act()
    proving.prove(PRESENT)
    return findings


def test_the_clients_within_a_bound_are_run_again() -> None:
    """Within a bound the clients that it allows are run again with the settings to be written.

    Both kinds of load come before.
    """
    findings = _proved(0.1)
    assert findings.proof is not None
    assert findings.written is not None
    assert findings.proof.clients == 6
    assert findings.proof.settings == findings.written
    assert {seen.clients for seen in findings.closed_loop} >= {6, 8}
    assert findings.most_open is not None
    assert findings.most_open.offered == pytest.approx(0.6 * 60)
    assert findings.verdict == "idle"
    assert findings.full is not None
    assert findings.full.clients == 18  # the peak is measured again, next to the load that is compared with it
    assert findings.peak is not None
    assert findings.peak.answered >= findings.proof.answered


def test_without_a_bound_it_is_the_clients_of_the_peak() -> None:
    findings = _proved(None)
    assert findings.proof is not None
    assert findings.proof.clients == 18
    assert findings.written == PRESENT


def test_a_bound_that_is_not_kept_again_is_proved_with_fewer_clients() -> None:
    findings = _proved(0.1, slower=1.2)
    assert findings.proof is not None
    assert findings.proof.clients == 4
    assert findings.proof.p99_s <= 0.1


def test_a_bound_that_is_never_kept_again_is_refused() -> None:
    with pytest.raises(Refused, match=r"--p99-ms 100 cannot be met on this machine with any certainty: 3 clients had"):
        _proved(0.1, slower=9.0)


def test_what_is_refused_is_not_written() -> None:
    with pytest.raises(Refused, match=r"9 of 240 requests of 18 clients were refused or lost .* \(9 times 503\)"):
        _proved(None, slower=2.0, refuses=True)


def test_a_bound_that_one_client_does_not_meet_is_refused() -> None:
    with pytest.raises(Refused, match=r"even one client alone has 99 % of its answers only within 16.7 ms"):
        _proved(0.005)
