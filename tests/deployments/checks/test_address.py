"""Tests of hosts, ports, names and prefixes, alone and beside those of other applications."""

from pathlib import Path

import pytest

from tests.support.written_config import BEHIND_HAPROXY, WRITTEN_OUT, changed, faults_of


@pytest.mark.parametrize(
    "host", ["10.0.0.0", "'::'", "::1", "localhost", "my-host.example.org", "10.0.0.7", "fe80::1%eth0"]
)
def test_an_address_or_a_name_is_a_host(tmp_path: Path, host: str) -> None:
    assert faults_of(tmp_path, changed("host: 127.0.0.1", f"host: {host}")) == {}


@pytest.mark.parametrize("prefix", ["/", "/classify", "/v1/models.resnet_50~a"])
def test_a_path_is_a_prefix(tmp_path: Path, prefix: str) -> None:
    assert faults_of(tmp_path, changed("route_prefix: /", f"route_prefix: {prefix}")) == {}


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ("/", "/predict", "/predict from applications.0; write another, e.g. /models/predict"),
        ("/models/cat", "/models/cat/info", "/info from applications.0"),
        ("/", "/models", None),
        ("/models", "/models/cat", None),
        ("/models/cat", "/models/catfish", None),
    ],
)
def test_a_prefix_must_not_take_a_path_of_another_application(
    tmp_path: Path, first: str, second: str, says: str | None
) -> None:
    """Prefixes may overlap, as the longest takes a request; but none may be a path that another application serves."""
    other = f"  - {{name: o, import_path: 'o:p', route_prefix: {second}}}\n"
    told = faults_of(tmp_path, changed("route_prefix: /", f"route_prefix: {first}") + other)
    assert (says is None) == (told == {})
    assert says is None or says in told["applications.1.route_prefix"]


def test_names_and_prefixes_are_unique(tmp_path: Path) -> None:
    """A second application of the same name or prefix is an error, also if it has Serve's default."""
    assert (
        "darkroom"
        in faults_of(tmp_path, f"{WRITTEN_OUT}  - {{name: darkroom, import_path: 'o:p', route_prefix: /o}}\n")[
            "applications"
        ]
    )
    assert (
        "route prefix"
        in faults_of(tmp_path, f"{WRITTEN_OUT}  - {{name: o, import_path: 'o:p', route_prefix: /}}\n")["applications"]
    )


@pytest.mark.parametrize(("variable", "value", "says"), [
    ("RAY_SERVE_HAPROXY_STATS_PORT", "9101", "HAProxy's metrics"),
    ("RAY_SERVE_HAPROXY_STATS_PORT", "eight", "is no port"),
    ("RAY_SERVE_HAPROXY_METRICS_PORT", "70000", "is no port"),
    ("RAY_SERVE_FALLBACK_PROXY_HTTP_PORT", "8000", "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT=8500"),
])  # fmt: skip
def test_ports_of_the_environment_are_held_against_the_service(
    tmp_path: Path, variable: str, value: str, says: str
) -> None:
    told = faults_of(tmp_path, WRITTEN_OUT, **BEHIND_HAPROXY, **{variable: value})
    assert len(told) == 1
    assert any(says in each for each in told.values()), told
