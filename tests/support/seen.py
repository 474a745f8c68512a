"""Views of a service from outside: its processes that live, serve, or are left behind."""

import contextlib
import csv

import httpx
import psutil

from deployments.local.serve_api import ServeApiError
from tests.support.running_service import Service, is_decoder, name_of


def _serving(service: Service) -> set[str]:
    """Return the replicas that HAProxy sends requests to."""
    port = service.environment["RAY_SERVE_HAPROXY_STATS_PORT"]
    try:
        lines = httpx.get(f"http://127.0.0.1:{port}/stats;csv", timeout=5, trust_env=False).text.splitlines()
    except httpx.TransportError:
        return set()
    rows = [row for row in csv.DictReader(lines) if row["svname"].startswith("SERVE_REPLICA")]
    return {row["svname"] for row in rows if row["status"] == "UP"}


def is_whole(service: Service, replicas: int) -> bool:
    """Return whether all replicas are up, and no process of others is left."""
    return len(_serving(service)) == len(service.replicas()) == replicas and not _remains(service)


def _remains(service: Service) -> list[str]:
    """Return processes that belong to no living replica: decoder processes, a second HAProxy."""
    processes, alive = service.processes(), {replica.pid for replica in service.replicas()}
    families = alive.union(*(_family(replica) for replica in service.replicas()))
    decoders = [process.pid for process in processes if is_decoder(process) and process.pid not in families]
    orphans = [process.pid for process in processes if _parent(process) == 1]
    balancers = [process.pid for process in processes if name_of(process) == "haproxy"]
    return [*map(str, decoders + orphans + balancers[1:])]


def _family(process: psutil.Process) -> set[int]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return {child.pid for child in process.children(recursive=True)}
    return set()


def with_decoders(service: Service) -> set[int]:
    """Return the replicas that have started their decoders, and so are warm or soon will be."""
    decoders = {process.pid for process in service.processes() if is_decoder(process)}
    return {replica.pid for replica in service.replicas() if _family(replica) & decoders}


def _parent(process: psutil.Process) -> int | None:
    with contextlib.suppress(psutil.Error):
        return process.ppid()
    return None


def actor(service: Service, name: str) -> psutil.Process:
    """Return the only process whose name contains this."""
    (found,) = [process for process in service.processes() if name in name_of(process)]
    return found


def killed(service: Service, name: str) -> list[psutil.Process]:
    """Kill the process of that name and return it, or none while it is being replaced anyway."""
    with contextlib.suppress(ValueError, psutil.NoSuchProcess):
        victim = actor(service, name)
        victim.kill()
        return [victim]
    return []


def says_running(service: Service) -> bool:
    """Return whether Serve reports an application as running; without a controller it cannot be asked."""
    with contextlib.suppress(ServeApiError, IndexError):
        return "RUNNING" in [each["status"] for each in service.api().applications().values()]
    return False
