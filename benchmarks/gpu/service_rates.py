"""Measures the service on this machine in each case: started by its launcher, with clients beside it."""

import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from benchmarks.gpu.cases import CASES, DRY_CASES, Case, CaseLoad, chosen
from benchmarks.gpu.client_processes import Clients, processes_of_clients
from benchmarks.gpu.decode_rates import ceiling_of, http_ceiling_of, size_of, works
from benchmarks.gpu.outcome import Figure, Missing
from benchmarks.gpu.part_setting import PartSetting
from benchmarks.gpu.processor import Used
from benchmarks.work import Work
from deployments.local.machine import leftovers
from harness.load import Load as Answered
from harness.local_service import LocalService
from harness.ports import apart, free_port
from harness.target import Form, form_body, image_body

_READY_TIMEOUT_S: Final = 150.0
_MAX_LOG_BYTES: Final = 200_000
_REPORTED_STATS: Final = (
    "verdict",
    "stages_ms",
    "device",
    "interpreter",
    "event_loop",
    "cores",
    "decode_workers",
    "free_slots",
)
"""Keys of GET /stats that go into the results."""


def rates(setting: PartSetting) -> Iterator[Figure | Missing]:
    """Measure all cases, each with a service of its own."""
    cases = chosen(DRY_CASES if setting.dry else CASES, setting.cases)
    with (
        tempfile.TemporaryDirectory(prefix="darkroom-gpu-", dir="/tmp") as folder,
        Clients(processes_of_clients()) as clients,
    ):
        weights = Path(folder, "resnet50.pth")
        if not setting.dry:
            random_resnet(weights)
        measure = partial(rates_of, setting=setting, folder=Path(folder), weights=weights, clients=clients)
        yield from setting.each(cases, measure, needs_s=20.0 if setting.dry else 45.0)


def random_resnet(path: Path) -> None:
    """Write a random state dict of ResNet-50; the speed does not depend on the weights."""
    import torch
    from torchvision.models import resnet50

    torch.manual_seed(0)
    torch.save(resnet50().state_dict(), path)


def rates_of(
    case: Case, setting: PartSetting, folder: Path, weights: Path, clients: Clients
) -> Iterator[Figure | Missing]:
    """Start the service of a case, and measure its loads."""
    document, began_at = case.document(weights), time.monotonic()
    document["http_options"]["port"] = free_port()
    with running(case, document, setting, folder) as service:
        took_s, info = time.monotonic() - began_at, service.info()
        told = {
            name: info.get(name)
            for name in ("device", "dtype", "computed_as", "decode_workers", "num_cpus", "num_gpus", "batch_size")
        }
        yield Figure(f"{case.name}: start until all replicas run", took_s, "s", note=_joined(told), details=told)
        measure = partial(rate, case, service, str(info["dtype"]), setting, clients)
        yield from setting.each(case.loads, measure, needs_s=4.0 if setting.dry else 12.0)


# ---- a running service ----------------------------------------------------------------------------------------------


@contextmanager
def running(case: Case, document: dict[str, Any], setting: PartSetting, folder: Path) -> Iterator[LocalService]:
    """Start a service and wait for all replicas; after the block end it and keep its logs."""
    service = LocalService(folder, document, apart())
    try:
        (deployment,) = document["applications"][0]["deployments"]
        service.wait_for_replicas(deployment.get("num_replicas", 1), min(_READY_TIMEOUT_S, setting.left_s))
        yield service
    finally:
        name = re.sub(r"[^a-z0-9]+", "-", case.name.lower())
        keep_logs(service, setting.out / f"service-{name}")
        for line in service.stop():
            print("not in order:", line, flush=True)


def keep_logs(service: LocalService, folder: Path) -> None:
    """Copy the end of the launcher's output and of the replicas' logs."""
    logs = [service.output]
    for process in leftovers(service.run):
        try:
            options = process.cmdline() if process.name() == "raylet" else []
        except psutil.Error:
            continue
        logs += [path for option in options if option.startswith("--log_dir=") for path in _of_replicas(option)]
    folder.mkdir(exist_ok=True)
    for path in logs:
        (folder / path.name).write_bytes(path.read_bytes()[-_MAX_LOG_BYTES:])


def _of_replicas(option: str) -> list[Path]:
    return sorted(Path(option.partition("=")[2], "serve").glob("replica_*.log"))


# ---- a load ---------------------------------------------------------------------------------------------------------


def rate(
    case: Case, service: LocalService, dtype: str, setting: PartSetting, clients: Clients, load: CaseLoad
) -> Figure:
    """Measure images a second answered to closed-loop clients."""
    work = works(setting)[load.size == "large"]
    forms, for_s = forms_of(work, load.together), 1.0 if setting.dry else 4.0
    clients.closed_loop(service.target, forms, clients=load.clients, warm_up_s=for_s / 8, for_s=for_s / 4)
    before, began_at = Used.by_run(service.run), time.monotonic()
    answered = clients.closed_loop(service.target, forms, clients=load.clients, warm_up_s=0.3, for_s=for_s)
    wall_s, after = time.monotonic() - began_at, Used.by_run(service.run)
    stats = stats_of(service, for_s)
    return Figure(
        f"{case.name}: {size_of(work)}, {load.together} a request, {load.clients} clients",
        answered.per_s * load.together,
        "images/s",
        of=(ceiling_of(work), http_ceiling_of(work, load.together), f"model {case.model} {dtype}"),
        note=_noted(answered, clients, stats),
        details={
            "requests_per_s": round(answered.per_s, 1),
            "quantiles_ms": _quantiles_ms(answered),
            "others": dict(answered.others),
            "clients_cores": round(answered.clients_cores, 2),
            "cores": after.cores_since(before, wall_s),
            "busiest_threads": after.busiest_since(before, wall_s),
            "stats": stats,
        },
    )


def _noted(answered: Answered, clients: Clients, stats: Mapping[str, Any]) -> str:
    """Make the note for the table."""
    median_ms, last_ms = _quantiles_ms(answered)
    said = f"p50 {median_ms} ms, p99 {last_ms} ms; clients' cores {answered.clients_cores:.2f} of {clients.processes}"
    others = f"; others: {_joined(answered.others)}" if answered.others else ""
    return f"{said}{others}; {stats.get('verdict') or ''}"


def _quantiles_ms(answered: Answered) -> list[float]:
    return [round(1e3 * answered.quantile_s(share), 1) for share in (0.5, 0.99)]


def forms_of(work: Work, together: int) -> Sequence[Form]:
    """Make requests with `together` images each."""
    images = list(work.images)
    if together == 1:
        return [image_body(image) for image in images]
    return [form_body([images[(at + n) % len(images)] for n in range(together)]) for at in range(0, len(images), 8)]


def stats_of(service: LocalService, for_s: float) -> dict[str, Any]:
    """Read GET /stats of a replica for the last seconds."""
    url = f"{service.endpoint.url}/stats?seconds={max(1, round(for_s))}"
    try:
        stats = httpx.get(url, timeout=10, trust_env=False, headers={"Connection": "close"}).raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        return {"error": str(error)}
    return {name: stats.get(name) for name in _REPORTED_STATS}


def _joined(pairs: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in pairs.items())
