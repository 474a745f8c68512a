"""Requests, answers and readings that the tests of the soak share."""

from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

from harness.roles import REPLICA
from tests.soak.callers import Attempt, Record
from tests.soak.census import Reading
from tests.soak.judgement import AnswerKind, Best, Verdict
from tests.soak.samples import Corpus, Sample

CAT, CUP = Sample("cat", b"", "image/jpeg"), Sample("cup", b"", "image/jpeg")
TORN = Sample("torn", b"", "image/jpeg", HTTPStatus.UNPROCESSABLE_ENTITY)
CORPUS = Corpus(common=[Sample("cat", b"x" * 1000, "image/jpeg")], phone=[], slow=[], bad=[])
TRUTH = {"cat": Best("tabby", 0.8), "cup": Best("espresso", 0.9)}
MIB = 1 << 20

Document = dict[str, Any]


def predicted(label: str, score: float) -> Document:
    return {"predictions": [{"label": label, "index": 0, "score": score}]}


def problem(status: int, kind: str) -> Document:
    return {"type": f"urn:darkroom:{kind}", "status": status}


A_CAT, A_CUP = predicted("tabby", 0.801), predicted("espresso", 0.899)
A_TORN = {"error": problem(422, "undecodable-image")}


def attempt(started_s: float, ended_s: float, kind: AnswerKind, status: int = 0) -> Attempt:
    return Attempt(started_s, ended_s, status, Verdict(kind, "it broke"))


def record(*attempts: Attempt, caller: str = "patient", shape: str = "raw") -> Record:
    return Record(caller, shape, 1, attempts)


def life(pid: int, from_s: int, to_s: int, fds: Callable[[int, int], float], role: str = REPLICA) -> Iterator[Reading]:
    """Return readings of one process every ten seconds; its fds are a function of the run's time and its age."""
    for at_s in range(from_s, to_s, 10):
        count = int(fds(at_s, at_s - from_s))
        yield Reading(at_s, pid, at_s - from_s, role, count, 4, 0, 100 * MIB)
