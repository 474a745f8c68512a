"""Tests of deployments/haproxy.sh, which changes the HAProxy configuration that Serve writes."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "deployments" / "haproxy.sh"
CORES = len(os.sched_getaffinity(0))
WRITTEN = """global
    nbthread {threads}
defaults
    mode http
frontend prometheus
    bind :9101
listen stats
    bind *:8404
frontend http_frontend
    bind 127.0.0.1:8000
"""


def changed(file: Path, threads: int) -> list[str]:
    """The lines that HAProxy reads."""
    file.write_text(WRITTEN.format(threads=threads))
    environment = {**os.environ, "DARKROOM_HAPROXY": "/bin/cat", "OMP_NUM_THREADS": "1"}
    command = ["/bin/sh", str(SCRIPT), "--", "/dev/null", str(file)]
    read = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=30)
    return [line.strip() for line in read.stdout.splitlines()]


@pytest.mark.parametrize(("asked", "started"), [(1, 1), (CORES, CORES), (CORES + 1, CORES)])
def test_there_are_no_more_threads_than_cores(tmp_path: Path, asked: int, started: int) -> None:
    """More would take turns. What Ray says of threads for torch (OMP_NUM_THREADS) is not meant."""
    assert f"nbthread {started}" in changed(tmp_path / "haproxy.cfg", asked)


def test_statistics_are_on_loopback_and_slow_headers_end(tmp_path: Path) -> None:
    lines = changed(tmp_path / "haproxy.cfg", 1)
    assert "bind 127.0.0.1:9101" in lines
    assert "bind 127.0.0.1:8404" in lines
    assert "timeout http-request 10s" in lines


def test_clients_addresses_are_told_to_replicas(tmp_path: Path) -> None:
    """HAProxy puts the secret in by itself, so it does not stand in the file."""
    lines = changed(tmp_path / "haproxy.cfg", 1)
    assert 'http-request set-header x-darkroom-source "%[src] ${DARKROOM_PROXY_SECRET}"' in lines
