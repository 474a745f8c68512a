"""Measures the chosen settings within the bound, and checks that the written ones refuse none of that load."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from tuning.bound_search import BoundSearch
from tuning.clients import CLIENT_COUNTS
from tuning.findings import Findings
from tuning.forecast import Refused
from tuning.load_check import LoadCheck, LoadResult
from tuning.replica_settings import Settings
from tuning.step import Step, number
from tuning.written_limits import proved, with_limits

MAX_ROUND_S: Final = 10.0
"""Seconds that a client may wait for its answer in the longest closed loop that is tried."""

MIN_IMAGES_PER_S: Final = 0.01
"""Lowest images a second that is assumed of a service."""

MAX_PROOFS: Final = 3
"""The most numbers of clients, descending, that are run until 99 % are answered within the bound again."""


class Proving:
    """Measures and checks the chosen settings, in steps.

    Args:
        check: the service.
        findings: results, filled during the run; settings have been chosen.
        for_s: duration of each load in seconds.
        most_clients: limit on the number of clients.
        before_all: inserts steps before the remaining ones.
    """

    def __init__(
        self,
        check: LoadCheck,
        findings: Findings,
        for_s: float,
        most_clients: int,
        before_all: Callable[[Sequence[Step]], None],
    ) -> None:
        assert findings.chosen is not None  # noqa: S101 - the steps before have seen to it
        assert findings.peak is not None  # noqa: S101 - likewise
        self._check, self._findings, self._for_s, self._before_all = check, findings, for_s, before_all
        self._chosen, self._full, self._most_clients = findings.chosen, findings.peak, most_clients
        self._holding: BoundSearch

    def holding(self) -> list[Step]:
        """Plan the search for the loads that are answered within the bound."""
        self._check.apply(self._chosen)
        return [Step("the bound: the chosen settings at full load", self._for_s, self._measure_full)]

    def _measure_full(self) -> None:
        """Measure full load once more: the machine may have become faster since."""
        findings, check = self._findings, self._check
        findings.full = check.closed_loop(self._chosen, self._full.clients, self._for_s)
        peak = check.expected = max(findings.full.answered, MIN_IMAGES_PER_S)
        most = max(1, min(self._most_clients, int(MAX_ROUND_S * peak / findings.images_per_request)))
        self._holding = BoundSearch(check, self._chosen, peak, findings.images_per_request, self._for_s, most)
        self._before_all(self._next())

    def _next(self) -> list[Step]:
        if (step := self._holding.next()) is None:
            return []
        return [step, Step("the bound", 0.0, self._note)]

    def _note(self) -> None:
        """Record the results so far and plan the next measurement.

        Raises:
            Refused: not even one client is answered within the bound.
        """
        holding, findings = self._holding, self._findings
        findings.closed_loop, findings.open_loop = (
            tuple(holding.closed_loop.values()),
            tuple(holding.open_loop.values()),
        )
        findings.most_open, findings.too_many = holding.most_open, holding.too_many_open
        if holding.clients.next() is None and not holding.keeps_bound_of_one():
            raise Refused(
                f"{_cannot_be_met(findings)}: even one client alone has 99 % of its answers only within "
                f"{1000 * holding.closed_loop[1].p99_s:.3g} ms with the best settings found. Nothing was changed. Give "
                "a larger --p99-ms, or none"
            )
        self._before_all(self._next())

    def prove(self, present: Settings) -> None:
        """Derive limits that refuse none of the reported load, and run the load against them.

        Args:
            present: the settings of the configuration.

        Raises:
            Refused: requests are still refused, or the bound is no longer kept.
        """
        findings = self._findings
        for load in self._loads():
            settings = with_limits(
                self._chosen,
                present,
                load,
                images_per_request=findings.images_per_request,
                asked_s=findings.asked_s,
            )
            findings.written, findings.proof = proved(self._check, settings, load.clients, self._for_s)
            self._check_not_refused(findings.proof)
            if findings.asked_s is None or findings.proof.p99_s <= findings.bound_s:
                findings.verdict = self._check.verdict(int(self._for_s))
                return
        clients, p99_ms = number(load.clients, "client"), 1000 * findings.proof.p99_s if findings.proof else 0.0
        raise Refused(
            f"{_cannot_be_met(findings)} with any certainty: {clients} had 99 % of the answers in time once, and then "
            f"within {p99_ms:.3g} ms. Nothing was changed. Run it again when nothing else computes, or give a larger "
            "--p99-ms"
        )

    def _loads(self) -> list[LoadResult]:
        """List the closed loops to check, the one with the most clients first."""
        if self._findings.asked_s is None:
            return [self._full]
        most = self._holding.most_clients
        counts = [count for count in reversed(CLIENT_COUNTS) if count <= most.clients][:MAX_PROOFS]
        return [replace(most, clients=count) for count in counts]

    def _check_not_refused(self, proof: LoadResult) -> None:
        if proof.refused or proof.lost:
            raise Refused(
                f"{proof.refused + proof.lost} of {proof.requests} requests of {number(proof.clients, 'client')} were "
                f"refused or lost with the settings found ({self._check.last_others}). Nothing was changed; the report "
                "shows the measurements"
            )


def _cannot_be_met(findings: Findings) -> str:
    return f"--p99-ms {1000 * findings.bound_s:g} cannot be met on this machine"
