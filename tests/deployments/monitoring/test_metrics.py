"""Tests of the metrics: a real Prometheus, from Debian's packages, scrapes a service at work."""

import json
import math
import shutil
import subprocess
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from deployments.monitoring.timeline import STAGES
from harness.photographs import jpeg, photograph
from harness.ports import free_port
from harness.repository import ROOT
from harness.roles import WORKER, role_of
from tests.support.image_files import slow_png
from tests.support.running_service import Service, live_config, name_of, opened
from tests.support.waiting import until

CAT = jpeg(photograph("cat"))
PANELS = json.loads((ROOT / "deployments/monitoring/dashboard.json").read_text("utf-8"))["panels"]
PROMETHEUS = shutil.which("prometheus") or str(ROOT / ".cache/prometheus/usr/bin/prometheus")

Ask = Callable[[str], list[Any]]
"""A query -> Prometheus's current answer."""


def _exporter(service: Service) -> str:
    """Return the address at which Ray's agent, one of many listening processes, exports the replicas' metrics."""
    ports = {
        connection.laddr.port
        for process in service.processes()
        if name_of(process).startswith("ray::Dashboard")
        for connection in process.net_connections("tcp")
        if connection.status == "LISTEN"
    }
    for port in ports:
        try:
            if "ray_darkroom_decode_workers{" in httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text:
                return f"127.0.0.1:{port}"
        except httpx.HTTPError:
            continue
    return ""


@pytest.fixture(scope="module")
def ask(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Send queries to a Prometheus that scrapes the service every second."""
    if not Path(PROMETHEUS).exists():
        pytest.skip("no prometheus here: `make .cache/prometheus/.installed` fetches Debian's package")
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    job = {"job_name": "ray", "static_configs": [{"targets": [until(lambda: _exporter(service))]}]}
    (folder / "prometheus.yml").write_text(
        yaml.safe_dump({"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [job]})
    )
    command = [PROMETHEUS, "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
    command.append(f"--web.listen-address=127.0.0.1:{port}")
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:

        def ready() -> bool:
            try:
                return client.get("/-/ready").is_success
            except httpx.ConnectError:
                return False

        def answer(query: str) -> list[Any]:
            got = client.get("/api/v1/query", params={"query": query}).raise_for_status().json()
            result: list[Any] = got["data"]["result"]
            return result

        try:
            until(ready)
            yield answer
        finally:
            process.terminate()
            process.wait(timeout=30)


def test_bytes_in_flight_are_seen(service: Service, ask: Ask) -> None:
    """The bytes in flight include those of an incomplete body, as far as they have arrived."""
    with opened(service, content_length=12_345_678) as connection:
        connection.send(bytes(12_100_000))
        until(lambda: [line for line in ask("ray_darkroom_encoded_bytes_in_flight") if float(line["value"][1]) > 12e6])


@pytest.fixture(scope="module")
def _load(service: Service, ask: Ask) -> Iterator[None]:
    """Cause every event that has a metric again and again, errors included."""
    until(lambda: ask("ray_darkroom_decode_workers"))
    leave = threading.Event()

    def send() -> None:
        while not leave.is_set():
            service.post_files(CAT, CAT, b"hello")
            service.post(b"hello")

    def trouble() -> None:
        while not leave.is_set():
            service.post_files(*[slow_png()] * 8, headers={"X-Request-Timeout-Ms": "300"})
            for process in service.replicas()[0].children(recursive=True):
                if role_of(process) == WORKER:
                    process.kill()
            leave.wait(1.0)

    with live_config(service, max_queue_wait_s=0.05):
        threads = [threading.Thread(target=body) for body in (send, send, send, trouble)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            leave.set()
            for thread in threads:
                thread.join()


QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]


@pytest.mark.usefixtures("_load")
@pytest.mark.parametrize(("title", "query"), QUERIES, ids=[f"{title}-{n}" for n, (title, _) in enumerate(QUERIES)])
def test_every_query_of_the_dashboard_has_data_under_load(ask: Ask, title: str, query: str) -> None:
    """Every query of the dashboard returns numbers under load; NaN and the fallback `vector(0)` do not count."""
    query = query.replace("$__rate_interval", "30s").replace("$application", "darkroom").replace(" or vector(0)", "")

    def values() -> list[float]:
        return [value for line in ask(query) if not math.isnan(value := float(line["value"][1]))]

    assert min(until(values)) >= 0, title


@pytest.mark.usefixtures("_load")
def test_every_stage_has_a_histogram(ask: Ask) -> None:
    found = until(lambda: {line["metric"]["stage"] for line in ask("ray_darkroom_stage_seconds_count")})
    assert found == set(STAGES)


@pytest.mark.usefixtures("_load")
@pytest.mark.parametrize("name", ["request_seconds", "stage_seconds", "batch_images"])
def test_buckets_count_up_to_their_limits(ask: Ask, name: str) -> None:
    """The counts of a histogram's buckets ascend with their limits, and the last bucket counts all values."""

    def counts() -> bool:
        histograms = defaultdict[str, dict[float, float]](dict)
        for line in ask(f'{{__name__=~"ray_darkroom_{name}_(bucket|count)"}}'):
            le = float(line["metric"].get("le", 2**31))  # the count, behind all buckets but the last
            histograms[line["metric"].get("stage", "")][le] = float(line["value"][1])
        found = [[count for _, count in sorted(by_le.items())] for by_le in histograms.values()]
        return bool(found) and all(each == sorted(each) and each[-1] == each[-2] > 0 for each in found)

    until(counts)  # a scrape may fall into an update


@pytest.mark.usefixtures("_load")
def test_metrics_say_of_which_replica_they_are(service: Service, ask: Ask) -> None:
    (line,) = until(lambda: ask("ray_darkroom_decode_workers"))
    assert (line["metric"]["application"], line["metric"]["deployment"]) == ("darkroom", "Model")
    assert line["metric"]["replica"] == service.client.get("/stats").json()["replica"]
    assert float(line["value"][1]) == service.info()["decode_workers"]


def test_every_query_is_of_the_chosen_applications() -> None:
    """Every metric in every query is filtered by the application that is chosen in the dashboard."""
    for _, query in QUERIES:
        assert query.count("ray_darkroom_") == query.count('{application=~"$application"'), query


def test_the_dashboard_fits_on_one_screen() -> None:
    """No two panels overlap, and the rows fit into 1080 pixels: about 30 of 30 pixels each."""
    cells = set[tuple[int, int]]()
    for panel in PANELS:
        place = panel["gridPos"]
        taken = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        cells |= taken
    assert max(x for x, _ in cells) < 24
    assert max(y for _, y in cells) < 30
