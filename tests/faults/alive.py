"""Kills, stops and hangs one process of a service after another; reports lost and slow requests, and for how long.

The service is started as `make serve` does it, on free ports. It gets 20 requests a second, each on a connection of its
own. The faults happen one by one, and after each the service must recover completely. Writes
`benchmarks/results/alive.md` and `.json`. `make alive` runs it.
"""

import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness import table
from harness.circumstances import circumstances
from harness.command import RESULTS, parser_of, run, say, write
from harness.local_service import LocalService, shipped_config
from harness.ports import apart, free_port
from harness.roles import REPLICA, TRACKER, WORKER
from tests.faults import strikes
from tests.faults.hanging import DEVICE, EVENT_LOOP, INTERPRETER
from tests.faults.outage import SLOW_S, Outage, measure
from tests.faults.strikes import Strike

KILL, STOP = signal.SIGKILL, signal.SIGSTOP
HEADER: Final = ("fault", "replicas", "sent", "lost", f"slower than {SLOW_S} s", "slowest s", "whole after s")
SETTLE_S: Final = 3.0
WHOLE_WITHIN_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that is done to a service, and the most that clients may notice of it.

    Args:
        name: name in the table.
        strike: causes the fault.
        for_s: time for which clients send requests.
        lost: requests without a prediction.
        slow: predictions that took more than `SLOW_S`; None for no limit.
        whole_s: time until no request is lost or slow any more.
        replicas: number of the service's replicas.
    """

    name: str
    strike: Strike
    for_s: float
    lost: int
    slow: int | None
    whole_s: float
    replicas: int = 1

    def complaints(self, outage: Outage) -> list[str]:
        """Return the measured values beyond these bounds, in words."""
        found = []
        if (lost := outage.lost.total()) > self.lost:
            found.append(f"{lost} lost ({dict(outage.lost)}), at most {self.lost}")
        if self.slow is not None and outage.slow > self.slow:
            found.append(f"{outage.slow} slow, the slowest {outage.slowest_s:.1f} s, at most {self.slow}")
        if outage.whole_after_s > self.whole_s:
            found.append(f"whole after {outage.whole_after_s:.1f} s, at most {self.whole_s:g} s")
        return found


FAULTS: Final = (
    Fault("worker killed", strikes.working(KILL), 4, lost=0, slow=0, whole_s=0),
    Fault("worker stopped", strikes.working(STOP), 4, lost=0, slow=0, whole_s=0),
    Fault("spare worker stopped", strikes.spare(STOP), 4, lost=0, slow=0, whole_s=0),
    Fault("all workers stopped", strikes.every(WORKER, STOP), 6, lost=0, slow=20, whole_s=1),
    Fault("forkserver killed, then a worker", strikes.with_its_worker(KILL), 6, lost=0, slow=0, whole_s=0),
    Fault("forkserver stopped, then a worker killed", strikes.with_its_worker(STOP), 6, lost=0, slow=0, whole_s=0),
    Fault("resource tracker killed", strikes.one(TRACKER, KILL), 3, lost=0, slow=0, whole_s=0),
    Fault("HAProxy killed", strikes.one("haproxy", KILL), 12, lost=140, slow=None, whole_s=7),
    Fault("HAProxy stopped", strikes.one("haproxy", STOP), 12, lost=140, slow=None, whole_s=7),
    Fault("HAProxy's manager killed", strikes.one("haproxy manager", KILL), 12, lost=140, slow=None, whole_s=7),
    Fault("HAProxy's manager stopped", strikes.one("haproxy manager", STOP), 30, lost=140, slow=None, whole_s=30),
    Fault("fallback proxy killed", strikes.one("fallback proxy", KILL), 6, lost=0, slow=0, whole_s=0),
    Fault("controller killed", strikes.one("controller", KILL), 8, lost=0, slow=0, whole_s=0),
    Fault("replica killed", strikes.one(REPLICA, KILL), 18, lost=10, slow=None, whole_s=12),
    Fault("replica stopped", strikes.one(REPLICA, STOP), 18, lost=40, slow=None, whole_s=12),
    Fault("replica's event loop hangs", strikes.hang(EVENT_LOOP), 25, lost=160, slow=None, whole_s=16),
    Fault("replica's interpreter hangs", strikes.hang(INTERPRETER), 25, lost=160, slow=None, whole_s=16),
    Fault("replica's device hangs", strikes.hang(DEVICE), 40, lost=500, slow=None, whole_s=30),
    Fault("replica killed", strikes.one(REPLICA, KILL), 12, lost=10, slow=0, whole_s=1, replicas=2),
    Fault("replica stopped", strikes.one(REPLICA, STOP), 12, lost=30, slow=None, whole_s=3, replicas=2),
    Fault("replica's event loop hangs", strikes.hang(EVENT_LOOP), 15, lost=80, slow=None, whole_s=8, replicas=2),
)


@contextmanager
def launched(replicas: int) -> Iterator[LocalService]:
    """Run a service of this many replicas, each with a core where there are several; no process is left afterwards.

    Raises:
        RuntimeError: a process is left.
    """
    document = shipped_config()
    document["http_options"]["port"] = free_port()
    (application,) = document["applications"]
    application["import_path"] = "tests.faults.hanging:build_app"
    (deployment,) = application["deployments"]
    deployment["autoscaling_config"].update(min_replicas=replicas, max_replicas=replicas)
    if replicas > 1:
        application["args"]["num_cpus"] = 1
    with tempfile.TemporaryDirectory(prefix="darkroom-alive-") as folder:
        service = LocalService(Path(folder), document, apart())
        try:
            yield service
        finally:
            left = service.stop()
    for line in left:  # processes that Ray did not end in time on a busy machine
        say(line)
    if any(line.startswith("left running") for line in left):
        raise RuntimeError("the service has left processes behind")


def struck(service: LocalService, fault: Fault) -> Outage:
    """Cause a fault in a service that has settled after the one before.

    Raises:
        ServiceFailed: the service has not settled in time.
    """
    service.wait_for_replicas(fault.replicas, WHOLE_WITHIN_S)
    time.sleep(SETTLE_S)
    return measure(service.target, lambda: fault.strike(service), fault.for_s)


def row(fault: Fault, outage: Outage) -> list[str]:
    """Return a row of the table."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in outage.lost.most_common())
    return [
        fault.name,
        str(fault.replicas),
        str(outage.sent),
        f"{outage.lost.total()} ({kinds})" if kinds else "0",
        str(outage.slow),
        f"{outage.slowest_s:.2f}",
        f"{outage.whole_after_s:.1f}",
    ]


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status, 0 if nothing is beyond its bounds."""
    parser = parser_of("tests.faults.alive", __doc__)
    parser.add_argument("--only", action="append", default=[], help="a fault, by its name; may be given again")
    options = parser.parse_args(arguments)
    about, rows, records, complaints = circumstances("tests.faults.alive", arguments), [], [], []
    faults = [fault for fault in FAULTS if not options.only or fault.name in options.only]
    for replicas in sorted({fault.replicas for fault in faults}):
        with launched(replicas) as service:
            for fault in (fault for fault in faults if fault.replicas == replicas):
                outage = struck(service, fault)
                rows.append(row(fault, outage))
                records.append(dict(zip(HEADER, rows[-1], strict=True)))
                say("  ".join(rows[-1]))
                complaints += [f"{fault.name}, {replicas} replicas: {each}" for each in fault.complaints(outage)]
    sys.stdout.write(table.text(HEADER, rows))
    if not options.only:
        heading = (
            f"# Faults, one after another\n\n{about['date']}, `make alive` at {about['darkroom']}: {about['cpu']}\n"
        )
        write(RESULTS / "alive", [about, *records], f"{heading}\n{table.markdown(HEADER, rows)}")
    sys.stdout.write("".join(f"beyond its bound: {complaint}\n" for complaint in complaints))
    return 1 if complaints else 0


if __name__ == "__main__":
    run(main)
