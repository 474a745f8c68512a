"""The faults and their measurements, the same code for every server."""

import asyncio
import contextlib
import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Final

from benchmarks.servers import Role, Server
from harness.broken_images import announced_bomb, decodable_bomb, photographs, truncated
from harness.command import Facts
from harness.load import closed_loop
from harness.percentiles import percentile
from harness.photographs import phone_jpeg
from harness.resident_memory import Memory
from harness.single_requests import Answer, at_once, at_rate, leave

RUNS: Final = 3
BURST_CLIENTS: Final = 8

LEAVING_CLIENTS: Final = 64
LEAVE_AFTER_S: Final = 0.05

KILL_REQUESTS_PER_S: Final = 20.0  # requests a second: a fraction of every server's capacity
BEFORE_KILL_S: Final = 2.0
RECOVERY_TIMEOUT_S: Final = 60.0
SETTLE_S: Final = 5.0  # a restarted process loads its model

CLOSED_LOOP_CLIENTS: Final = 32
OVERLOAD_FACTOR: Final = 2.0
OVERLOAD_S: Final = 10.0


# ---- one bad image among good ones ----------------------------------------------------------------------------------


def _eight(bad: bytes, run: int) -> tuple[list[bytes], int]:
    """Make seven photographs and a bad image; return them with its position."""
    draw = random.Random(run)
    images = draw.choices(photographs(), k=BURST_CLIENTS)
    place = draw.randrange(BURST_CLIENTS)
    images[place] = bad
    return images, place


async def _bad_among_clients(server: Server, bad: bytes) -> list[Facts]:
    runs = []
    for run in range(RUNS):
        images, place = _eight(bad, run)
        with Memory(server.processes) as memory:
            answers = await at_once(server.target, [server.kind.wrap(image) for image in images])
        lost = [answer for number, answer in enumerate(answers) if number != place and not answer.good]
        runs.append(
            {
                "good": BURST_CLIENTS - 1,
                "lost": len(lost),
                "lost_got": _got(lost),
                "bad_got": _got([answers[place]]),
                "bad_took_s": round(answers[place].took_s, 3),
                "grown_bytes": memory.grown_bytes,
            }
        )
        await until_answers(server)
    return runs


async def truncated_among_clients(server: Server) -> list[Facts]:
    """Send one image from each of eight clients at once; one image is cut off."""
    return await _bad_among_clients(server, truncated())


async def announced_bomb_among_clients(server: Server) -> list[Facts]:
    """Send one image from each of eight clients at once; one header announces 2.5 gigapixels."""
    return await _bad_among_clients(server, announced_bomb())


async def decodable_bomb_among_clients(server: Server) -> list[Facts]:
    """Send one image from each of eight clients at once; one image really has 144 megapixels."""
    return await _bad_among_clients(server, decodable_bomb())


async def truncated_in_one_request(server: Server) -> list[Facts] | None:
    """Send eight images in one request; one is cut off."""
    if server.kind.many is None:
        return None
    runs = []
    for run in range(RUNS):
        images, place = _eight(truncated(), run)
        (answer,) = await at_once(server.target, [server.kind.many(images)])
        results = json.loads(answer.reply.body)["results"] if answer.good else [{}] * BURST_CLIENTS
        lost = sum("predictions" not in result for number, result in enumerate(results) if number != place)
        bad = results[place].get("error", {}).get("status", "none")
        runs.append({"good": BURST_CLIENTS - 1, "lost": lost, "bad_got": {str(bad): 1}})
    return runs


# ---- a killed process -----------------------------------------------------------------------------------------------


async def killed_decoder(server: Server) -> list[Facts] | None:
    """Kill a decoding process under load, three times; None if the process of the model decodes."""
    if set(server.players("decoder")) & set(server.players("model")):
        return None
    return await _killed(server, "decoder")


async def killed_model(server: Server) -> list[Facts]:
    """Kill a process that runs the model under load, three times."""
    return await _killed(server, "model")


async def _killed(server: Server, role: Role) -> list[Facts]:
    """Kill three processes under one load, as a request may still hang when the next process is killed."""
    over, kills = asyncio.Event(), list[Facts]()
    forms = [server.kind.wrap(image) for image in photographs()]
    longest_s = RUNS * (BEFORE_KILL_S + 2 * RECOVERY_TIMEOUT_S + SETTLE_S)
    load = asyncio.create_task(at_rate(server.target, forms, rate=KILL_REQUESTS_PER_S, for_s=longest_s, enough=over))
    try:
        for _ in range(RUNS):
            await asyncio.sleep(BEFORE_KILL_S)
            kills.append(await _kill(server, role))
            if kills[-1]["answers_after_s"] is None:
                break
            await asyncio.sleep(SETTLE_S)
    finally:
        over.set()
    answers = await load
    borders = [0.0, *(kill["at"] for kill in kills[1:]), float("inf")]
    for kill, begin, end in zip(kills, borders, borders[1:], strict=False):
        mine = [answer for answer in answers if begin <= answer.due_at < end]
        lost = [answer for answer in mine if not answer.good]
        kill |= {"sent": len(mine), "lost": len(lost), "lost_got": _got(lost)}
    return kills


async def _kill(server: Server, role: Role) -> Facts:
    """Kill the oldest process with a role; wait until the service answers and as many processes run as before."""
    before = server.players(role)
    killed_at = time.perf_counter()
    before[0].kill()
    answers_after_s = await until_answers(server)
    facts = {"at": killed_at, "answers_after_s": answers_after_s, "replaced_after_s": None}
    while answers_after_s is not None and time.perf_counter() - killed_at < RECOVERY_TIMEOUT_S:
        if len([process for process in server.players(role) if process != before[0]]) >= len(before):
            facts["replaced_after_s"] = round(time.perf_counter() - killed_at, 2)
            break
        await asyncio.sleep(0.25)
    return facts


async def until_answers(server: Server) -> float | None:
    """Send a photograph every quarter of a second until one is answered; return the seconds, or None.

    Each has its own connection, so one that hangs does not delay the next.
    """
    began_at, over = time.perf_counter(), asyncio.Event()
    form = server.kind.wrap(photographs()[0])
    answered_at: list[float] = []

    async def probe() -> None:
        (answer,) = await at_once(server.target, [form])
        if answer.good:
            answered_at.append(time.perf_counter())
            over.set()

    probes = set[asyncio.Task[None]]()
    while not over.is_set() and time.perf_counter() - began_at < RECOVERY_TIMEOUT_S:
        probes.add(asyncio.create_task(probe()))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), 0.25)
    for task in probes:
        task.cancel()
    return round(min(answered_at) - began_at, 3) if answered_at else None


# ---- clients that go away -------------------------------------------------------------------------------------------


async def gone_clients(server: Server) -> list[Facts]:
    """Measure the wait of a client after 64 clients have sent a large photograph each and disconnected."""
    runs = []
    for _ in range(RUNS):
        idle_s = await _idle_s(server)
        form = server.kind.wrap(phone_jpeg("espresso"))
        await asyncio.gather(*(leave(server.target, form, after_s=LEAVE_AFTER_S) for _ in range(LEAVING_CLIENTS)))
        (answer,) = await at_once(server.target, [server.kind.wrap(photographs()[0])])
        after_s = answer.took_s if answer.good else answer.took_s + (await until_answers(server) or RECOVERY_TIMEOUT_S)
        runs.append({"idle_s": idle_s, "after_s": round(after_s, 3), "first_got": _got([answer])})
        await _until_quiet(server, idle_s)
    return runs


async def _idle_s(server: Server) -> float:
    return statistics.median([await until_answers(server) or RECOVERY_TIMEOUT_S for _ in range(3)])


async def _until_quiet(server: Server, idle_s: float) -> None:
    """Wait until three requests in a row are about as fast as on the idle server, or for a minute."""
    deadline, quick = time.monotonic() + RECOVERY_TIMEOUT_S, 0
    while quick < 3 and time.monotonic() < deadline:
        took_s = await until_answers(server)
        quick = quick + 1 if took_s is not None and took_s < 2 * idle_s + 0.1 else 0


# ---- overload -------------------------------------------------------------------------------------------------------


async def overload(server: Server) -> list[Facts]:
    """Send twice as many requests as the server answers to 32 closed-loop clients."""
    forms = [server.kind.wrap(image) for image in photographs()]
    idle_s = await _idle_s(server)
    ask = partial(closed_loop, server.target, forms, clients=CLOSED_LOOP_CLIENTS, warm_up_s=2, for_s=4)
    capacity = (await asyncio.to_thread(ask)).per_s
    await _until_quiet(server, idle_s)
    runs = []
    for _ in range(RUNS):
        with Memory(server.processes) as memory:
            answers = await at_rate(server.target, forms, rate=OVERLOAD_FACTOR * capacity, for_s=OVERLOAD_S)
        runs.append({"capacity_per_s": round(capacity, 1), **_of_overload(answers), "grown_bytes": memory.grown_bytes})
        await _until_quiet(server, idle_s)
    return runs


def _of_overload(answers: Sequence[Answer]) -> Facts:
    took_s = [answer.took_s for answer in answers if answer.good]
    refused = sum(answer.reply.status in (429, 503) for answer in answers)
    return {
        "sent": len(answers),
        "good": len(took_s),
        "refused": refused,
        "failed": len(answers) - len(took_s) - refused,
        "failed_got": _got([answer for answer in answers if answer.reply.status not in (200, 429, 503)]),
        "p50_s": round(percentile(took_s, 0.5), 3),
        "p99_s": round(percentile(took_s, 0.99), 3),
        "sent_late_s": round(max(answer.late_s for answer in answers), 3),
    }


def _got(answers: Sequence[Answer]) -> dict[str, int]:
    """Count the outcomes: statuses, or ends of connections."""
    return dict(Counter(answer.reply.outcome for answer in answers))
