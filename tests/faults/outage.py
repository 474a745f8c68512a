"""Measurement of an outage: requests at a constant rate, a fault in the middle, and the losses of clients."""

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from harness.single_requests import Answer, at_rate
from harness.target import Form, Target
from tests.support.judged_load import LABELS, small_picture

RATE: Final = 20.0
BEFORE_S: Final = 2.0
SLOW_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Outage:
    """The requests during a fault, as clients saw them end.

    Args:
        sent: requests before and after the fault.
        lost: requests without a prediction, by status or by the end of the connection.
        wrong: predictions for another picture.
        slow: predictions that took more than `SLOW_S`.
        slowest_s: the longest wait for a prediction.
        whole_after_s: time from the fault to the first request after which none was lost or slow; 0 if none was.
    """

    sent: int
    lost: Counter[str]
    wrong: int
    slow: int
    slowest_s: float
    whole_after_s: float


def measure(target: Target, strike: Callable[[], object], for_s: float, rate: float = RATE) -> Outage:
    """Send `rate` requests a second, call `strike` after `BEFORE_S`, and go on for `for_s`.

    A model that knows the pictures (`LABELS`) has to be served.
    """
    return asyncio.run(_measure(target, strike, for_s, rate))


async def _measure(target: Target, strike: Callable[[], object], for_s: float, rate: float) -> Outage:
    forms = [Form("image/jpeg", small_picture(name)) for name in LABELS]
    load = asyncio.create_task(at_rate(target, forms, rate=rate, for_s=BEFORE_S + for_s))
    await asyncio.sleep(BEFORE_S)
    struck_at = time.perf_counter()
    await asyncio.to_thread(strike)
    return outage_of(await load, struck_at, LABELS.values())


def outage_of(answers: Sequence[Answer], struck_at: float, labels: Iterable[str] = ()) -> Outage:
    """Sum up answers to requests, some of which were due after the moment of a fault.

    Args:
        answers: in the order of the requests.
        struck_at: moment of the fault.
        labels: right labels of the requests, in turn; without them no answer is judged.
    """
    good = [answer for answer in answers if answer.good]
    lost = Counter(answer.reply.outcome for answer in answers if not answer.good)
    bad = [at for at, answer in enumerate(answers) if not answer.good or answer.took_s > SLOW_S]
    whole_at = answers[min(bad[-1] + 1, len(answers) - 1)].due_at if bad else struck_at
    return Outage(
        sent=len(answers),
        lost=lost,
        wrong=sum(
            answer.good and json.loads(answer.reply.body)["predictions"][0]["label"] != label
            for answer, label in zip(answers, itertools.cycle(labels), strict=False)
        ),
        slow=sum(answer.took_s > SLOW_S for answer in good),
        slowest_s=max((answer.took_s for answer in good), default=0.0),
        whole_after_s=max(0.0, whole_at - struck_at),
    )
