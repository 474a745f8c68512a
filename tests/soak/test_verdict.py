"""Tests of the verdict of a soak."""

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import cast

import pytest

from harness.local_service import LocalService
from harness.ports import free_port
from harness.roles import LAUNCHER, WORKER
from harness.target import Target, image_body
from tests.soak.callers import Attempt
from tests.soak.injections import FLOOD, KILL_WORKER, STOP_WORKER, Event, Injections
from tests.soak.judgement import AnswerKind, Verdict
from tests.soak.soaking import life, record
from tests.soak.tally import tally
from tests.soak.verdict import faults_of, is_rays_own, restarts_in, with_roles


def test_what_the_injections_do_not_explain_is_a_fault() -> None:
    blamed = Attempt(1.0, 12.0, 422, Verdict(AnswerKind.BLAMED, "slow", blamed=1))
    stopped, killed = Event(1.0, 12.0, STOP_WORKER, ""), Event(20.0, 21.0, KILL_WORKER, "")
    found = tally([record(blamed)], [])
    assert faults_of(found, [stopped, killed], Counter(workers=2)) == []
    assert len(faults_of(found, [killed], Counter(workers=2))) == 2
    assert faults_of(found, [stopped], Counter(workers=1, replicas=1)) == [
        "1 replicas restarted: more than were killed"
    ]
    complaint = Event(5.0, 35.0, KILL_WORKER, "", "not within 30 s")
    assert faults_of(tally([], []), [complaint], Counter()) == ["5.0 s, kill a worker: not within 30 s"]


def test_restarts_are_counted_in_what_the_service_prints() -> None:
    output = """
(pid=7) decoder process 41 ended; starting another
(pid=7) decoder process 42 was ended, an image took it too long; starting another
(pid=9) controller 9 -- Replica Replica(id='xkw03o96', app='darkroom') failed health check, stopping it.
"""
    assert restarts_in(output) == {"workers": 2, "replicas": 1}


def test_a_process_that_is_left_is_named_by_its_role() -> None:
    readings = list(life(4711, 0, 10, lambda *_: 3, LAUNCHER))
    assert with_roles("left running: 4711 python", readings) == "left running: 4711 python [4711: launcher]"


def test_what_ray_did_not_end_in_time_is_no_fault() -> None:
    """A process of Ray's that did not end in time is no fault; one of Darkroom's is, and so is an unknown one."""
    readings = [*life(5, 0, 10, lambda *_: 3, "dashboard"), *life(6, 0, 10, lambda *_: 3, WORKER)]
    ended = "darkroom: terminate what did not end by itself: "
    assert is_rays_own(ended + "python (5)", readings)
    assert not is_rays_own(ended + "python (5), pt_data_worker (6)", readings)
    assert not is_rays_own(ended + "python (7)", readings)
    assert not is_rays_own("left running: 5 python", readings)


def test_a_flood_that_is_neither_answered_nor_refused_is_a_complaint(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood that is neither answered nor refused, here as no server listens, is a complaint."""
    monkeypatch.setattr("tests.soak.injections.FLOOD_S", 0.1)
    target = Target("127.0.0.1", free_port(), "/predict", image_body)
    service = cast(LocalService, SimpleNamespace(target=target))
    injections = Injections(service, lambda: 1.0, 60.0, seed=1, stops=False, say=lambda _: None)
    event = asyncio.run(injections._flood())
    assert event.kind == FLOOD
    assert "0 answered, 0 to come again" in event.detail
    assert "ConnectionRefusedError" in event.complaint
