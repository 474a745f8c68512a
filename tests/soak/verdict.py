"""The verdict of a soak: lost and wrong answers, unexplained restarts, and growth."""

import re
from collections import Counter
from collections.abc import Sequence

from harness.roles import DARKROOM, REPLICA
from pipeline.bounds import CHUNKS_PER_WORKER
from pipeline.decode.slots import MAX_KEPT_BYTES
from tests.soak.census import Reading
from tests.soak.growth import growths, slots_bound_bytes, unlike_the_start
from tests.soak.injections import KILL_REPLICA, KILL_WORKER, STOP_WORKER, Event
from tests.soak.soak import Soak
from tests.soak.tally import Tally


def faults_of(found: Tally, events: Sequence[Event], restarts: Counter[str]) -> list[str]:
    """Return lost and wrong answers, and restarts that the injections do not explain."""
    done = Counter(event.kind for event in events)
    faults = [f"lost: {line}" for line in found.lost] + [f"wrong: {line}" for line in found.wrong]
    faults += [f"{event.at_s:.1f} s, {event.kind}: {event.complaint}" for event in events if event.complaint]
    if found.blamed_images > done[STOP_WORKER]:
        faults.append(f"{found.blamed_images} good images blamed, {done[STOP_WORKER]} workers stopped")
    if restarts["workers"] > done[KILL_WORKER] + done[STOP_WORKER]:
        faults.append(f"{restarts['workers']} workers restarted: more than were killed or stopped")
    if restarts["replicas"] > done[KILL_REPLICA]:
        faults.append(f"{restarts['replicas']} replicas restarted: more than were killed")
    return faults


def restarts_in(output: str) -> Counter[str]:
    """Count the replacements that the service itself has logged."""
    return Counter(
        workers=len(re.findall(r"decoder process \S+ (?:was )?ended", output)),
        replicas=len(re.findall(r"Replica Replica\(.*?\) failed health check, stopping it", output)),
    )


def growth_faults(soak: Soak) -> list[str]:
    """Return the quantities that grow, by the rules of `tests/soak/growth.py`."""
    faults = [
        f"{g.role}: {g.quantity} grow, within {g.within}, across {g.across}"
        for g in growths(soak.readings, soak.ended_at_s)
        if g.is_fault
    ]
    start = Counter(reading.role for reading in soak.readings if reading.at_s == soak.readings[0].at_s)
    faults += unlike_the_start(start, Counter(reading.role for reading in soak.at_rest))
    limits, args = soak.info["user_config"], soak.info["args"]["pipeline"]
    large_bytes = soak.info["decode_workers"] * CHUNKS_PER_WORKER * limits["max_batch_size"] * limits["max_image_bytes"]
    bound = slots_bound_bytes(args["slots"], soak.info["transform"]["crop_px"], large_bytes, MAX_KEPT_BYTES)
    for at_s in sorted({reading.at_s for reading in soak.readings}):
        now = [reading for reading in soak.readings if reading.at_s == at_s]
        shared, replicas = sum(r.shared_bytes for r in now), sum(r.role == REPLICA for r in now)
        if shared > bound * max(1, replicas):
            faults.append(f"{at_s:.1f} s: {shared >> 20} MiB of shared memory, above {bound >> 20} MiB a replica")
    return faults


def with_roles(line: str, readings: Sequence[Reading]) -> str:
    """Return the line, with the roles of the processes whose pids it names."""
    roles = {str(reading.pid): reading.role for reading in readings}
    return line + "".join(f" [{pid}: {roles[pid]}]" for pid in re.findall(r"\d+", line) if pid in roles)


def is_rays_own(line: str, readings: Sequence[Reading]) -> bool:
    """Return whether a line reports processes that had to be killed and were all Ray's.

    Those may be slow on a busy machine.
    """
    named = set(re.findall(r"\((\d+)\)", line))
    rays = {str(reading.pid) for reading in readings if reading.role not in DARKROOM}
    return "what did not end by itself" in line and named <= rays
