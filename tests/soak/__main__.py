"""Runs mixed traffic with injected faults; prints a table, and any loss, wrong answer, leftover or growth.

The service is started as `make serve` does it, on free ports, with the shipped serve_config.yaml. Two settings differ:
`body_timeout_s` is shorter, so that slow bodies are refused within the run, and `max_replicas` is the number that the
machine can hold. Ctrl-C ends a run early, with its table.
"""

import asyncio
import datetime
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from harness.command import RESULTS, parser_of, say
from harness.local_service import LocalService, shipped_config
from harness.ports import apart, free_port
from tests.soak.growth import growths
from tests.soak.soak import Soak
from tests.soak.soak_page import Soaked, as_document, as_page
from tests.soak.tally import tally
from tests.soak.verdict import faults_of, growth_faults, is_rays_own, restarts_in, with_roles

_BODY_TIMEOUT_S: Final = 15.0


def _configuration() -> dict[str, Any]:
    """Return the shipped configuration on a free port, with as many replicas as the machine can hold."""
    document = shipped_config()
    document["http_options"]["port"] = free_port()
    (deployment,) = document["applications"][0]["deployments"]
    # While Serve waits to place more replicas than the machine holds, it may not apply settings.
    deployment["autoscaling_config"]["max_replicas"] = max(1, (os.cpu_count() or 1) // 2)
    deployment["user_config"]["body_timeout_s"] = _BODY_TIMEOUT_S
    return document


def soaked(folder: Path, for_s: float, seed: int, *, stops: bool) -> Soaked:
    """Run a soak from the start of a service to its end.

    Args:
        folder: folder for the service's configuration and output.
        for_s: duration of the traffic.
        seed: of all random choices.
        stops: whether workers are stopped too, not only killed.
    """
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    service = LocalService(folder, _configuration(), apart())
    say(f"the service answers at {service.endpoint.url}; its output is in {service.output}")
    try:
        soak = Soak(service, for_s, seed=seed, stops=stops)
        asyncio.run(soak.run())
    finally:
        left = service.stop()
    found = tally(soak.traffic.records, soak.injections.outages)
    restarts = restarts_in(service.printed())
    faults = faults_of(found, soak.injections.events, restarts) + growth_faults(soak)
    faults += [with_roles(line, soak.readings) for line in left if not is_rays_own(line, soak.readings)]
    return Soaked(
        command=f"make soak MINUTES={for_s / 60:g}" + ("" if stops else " SOAK=--no-stops"),
        date=date,
        for_s=soak.ended_at_s,
        capacity=soak.capacity,
        device=soak.info["device"],
        tally=found,
        held_back=soak.traffic.held_back,
        events=soak.injections.events,
        worker_restarts=restarts["workers"],
        replica_restarts=restarts["replicas"],
        readings=soak.readings,
        growths=growths(soak.readings, soak.ended_at_s),
        faults=faults,
        notes=[with_roles(line, soak.readings) for line in left if is_rays_own(line, soak.readings)],
    )


def main() -> int:
    """Run the command line; return the exit status, 0 if nothing was found."""
    parser = parser_of("tests.soak", __doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-stops", action="store_true", help="stop no worker (SIGSTOP)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="darkroom-soak-"))
    result = soaked(folder, options.minutes * 60, options.seed, stops=not options.no_stops)
    RESULTS.mkdir(parents=True, exist_ok=True)
    page = as_page(result)
    (RESULTS / "soak.md").write_text(page)
    (RESULTS / "soak.json").write_text(json.dumps(as_document(result), indent=1) + "\n")
    sys.stdout.write(page)
    if result.faults:
        say(f"what the service has printed is kept in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
