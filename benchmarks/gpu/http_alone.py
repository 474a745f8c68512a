"""Measures HTTP alone: Serve and HAProxy as shipped, with replicas that read a body and forget it.

Whatever Darkroom does, a request costs this and the decoding of its images. So the cores divided by both are the limit
of the service.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.gpu.client_processes import Clients, processes_of_clients
from benchmarks.gpu.decode_rates import ceiling_of, http_ceiling_of, size_of, works
from benchmarks.gpu.outcome import Figure, Missing
from benchmarks.gpu.part_setting import PartSetting
from benchmarks.gpu.processor import Used
from benchmarks.gpu.service_rates import forms_of
from benchmarks.kinds import alone
from benchmarks.limit import Limit
from benchmarks.work import Work
from harness.local_service import Document, LocalService, shipped_config
from harness.ports import apart, free_port

_READY_TIMEOUT_S: Final = 60.0
_REPLICAS: Final = 8
_IMAGES_AND_CLIENTS: Final = ((1, 128), (32, 48))
_DRY_IMAGES_AND_CLIENTS: Final = ((2, 2),)


def rates(setting: PartSetting) -> Iterator[Figure | Missing]:
    """Measure one image a request and many; each figure is the cores divided by decoding and HTTP."""
    cores, (work, _) = len(os.sched_getaffinity(0)), works(setting)
    with Limit() as limit:
        limit.per_s(work.images, for_s=0.3, clients=cores)
        decode_s = cores / limit.per_s(work.images, for_s=1.0, clients=cores)
    document = document_of(1 if setting.dry else _REPLICAS)
    with (
        tempfile.TemporaryDirectory(prefix="darkroom-gpu-", dir="/tmp") as folder,
        Clients(processes_of_clients()) as clients,
    ):
        service = LocalService(Path(folder), document, apart())
        try:
            service.wait_for_replicas(1 if setting.dry else _REPLICAS, min(_READY_TIMEOUT_S, setting.left_s))
            for together, count in _DRY_IMAGES_AND_CLIENTS if setting.dry else _IMAGES_AND_CLIENTS:
                yield figure(service, work, together, count, decode_s, setting, clients)
        finally:
            for line in service.stop():
                print("not in order:", line, flush=True)


def document_of(replicas: int) -> Document:
    """Make serve_config.gpu.yaml with another application in the place of Darkroom's."""
    document = shipped_config("serve_config.gpu.yaml")
    document["http_options"]["port"] = free_port()
    (application,) = document["applications"]
    alone(application)
    application["deployments"] = [{"name": "Echo", "num_replicas": replicas}]
    return document


def figure(
    service: LocalService,
    work: Work,
    together: int,
    count: int,
    decode_s: float,
    setting: PartSetting,
    clients: Clients,
) -> Figure:
    """Measure the cores' time of a request, and compute the limit with decoding."""
    forms, for_s = forms_of(work, together), 1.0 if setting.dry else 4.0
    clients.closed_loop(service.target, forms, clients=count, warm_up_s=for_s / 8, for_s=for_s / 4)
    before, began_at = Used.by_run(service.run), time.monotonic()
    answered = clients.closed_loop(service.target, forms, clients=count, warm_up_s=0.0, for_s=for_s)
    cores = Used.by_run(service.run).cores_since(before, time.monotonic() - began_at)
    http_s = sum(cores.values()) / answered.per_s / together
    limit = len(os.sched_getaffinity(0)) / (decode_s + http_s)
    return Figure(
        f"limit by decoding and HTTP: {size_of(work)}, {together} a request",
        limit,
        "images/s",
        sets=http_ceiling_of(work, together),
        of=(ceiling_of(work),),
        note=f"decoding takes {1e3 * decode_s:.3g} ms of a core, HTTP {1e3 * http_s:.3g} ms for an image; "
        f"HTTP alone {answered.per_s:.0f} requests/s with {sum(cores.values()):.1f} cores",
        details={"decode_s": decode_s, "http_s": http_s, "requests_per_s": answered.per_s, "cores": cores},
    )
