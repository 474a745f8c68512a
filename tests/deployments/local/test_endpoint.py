"""Tests of the files that the launcher reads first: the endpoint in the configuration, and serve.env."""

import os
from pathlib import Path

import pytest

from deployments.local.endpoint import (
    Endpoint,
    StartError,
    asking_for_gpu,
    needed_ports,
    read_endpoint,
    read_endpoints,
    read_env,
)
from deployments.local.launcher import launch
from harness.repository import ROOT


def test_env_file_holds_names_and_values(tmp_path: Path) -> None:
    """serve.env holds names and values.

    Blank lines and comments are ignored, and a value may contain an equals sign.
    """
    file = tmp_path / "serve.env"
    file.write_text("# a comment\n\nRAY_A=1\n B = x=y \n")
    assert read_env(file) == {"RAY_A": "1", "B": "x=y"}


def test_env_file_may_be_absent(tmp_path: Path) -> None:
    """Without serve.env the service runs in Serve's plain mode."""
    assert read_env(tmp_path / "serve.env") == {}


def test_env_file_may_come_from_windows(tmp_path: Path) -> None:
    file = tmp_path / "serve.env"
    file.write_bytes(b"\xef\xbb\xbfRAY_A=1\r\n\r\nRAY_B=2\r\n")
    assert read_env(file) == {"RAY_A": "1", "RAY_B": "2"}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"RAY_A", "is not NAME=value"),
        (b"=secret", "is not NAME=value"),
        (b"1A=secret", "is not NAME=value"),
        (b"R\xc3\x84Y=secret", "is not NAME=value"),
        (b"export RAY_A=secret", "write RAY_A=value without export"),
        (b'RAY_A="secret"', "the quotes would be part of RAY_A"),
        (b"RAY_A='secret", "the quotes would be part of RAY_A"),
        (b"RAY_A=secret # a comment", "write the comment in a line of its own"),
        (b"RAY_B=secret", "RAY_B stands in line 1 already"),
        (b"RAY_A=sec\0ret", "a control character in the value of RAY_A"),
        (b"RAY_A=sec\rret", "a control character in the value of RAY_A"),
        (b"RAY_A=\xffsecret", "a byte that is no UTF-8"),
    ],
)
def test_env_file_with_another_line_is_refused(tmp_path: Path, line: bytes, says: str) -> None:
    """A line that a shell would read differently is refused by its number.

    Its value is not shown, as it may be a key.
    """
    file = tmp_path / "serve.env"
    file.write_bytes(b"RAY_B=1\n" + line + b"\n")
    with pytest.raises(StartError, match="line 2: ") as refused:
        read_env(file)
    assert says in str(refused.value)
    assert "ret" not in str(refused.value)


def test_env_file_that_is_none_is_not_waited_for(tmp_path: Path) -> None:
    """A serve.env that is a pipe or a folder is refused; a link to itself counts as absent."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "round").symlink_to(tmp_path / "round")
    for name, says in (("pipe", "no regular file"), (".", "no regular file")):
        with pytest.raises(StartError, match=says):
            read_env(tmp_path / name)
    assert read_env(tmp_path / "round") == {}


@pytest.mark.parametrize(
    ("args", "asks"),
    [
        ("{pipeline: {device: cuda}}", True),
        ("{pipeline: {device: auto}}", False),
        ("{pipeline: {}}", False),
        ("{pipeline: null}", False),
        ("null", False),
    ],
)
def test_a_configuration_for_a_gpu_alone_is_known(args: str, asks: bool, tmp_path: Path) -> None:
    """A configuration needs a GPU only by Darkroom's own applications.

    In others the same key may mean something else.
    """
    config = tmp_path / "a.yaml"
    for import_path, expected in (("deployments.app:build_app", asks), ("other:app", False)):
        config.write_text(f"applications: [{{name: a, import_path: '{import_path}', args: {args}}}]\n")
        assert asking_for_gpu(config) == ({"a"} if expected else set())


def test_endpoint_is_what_the_configuration_says(tmp_path: Path) -> None:
    """Host, port and route prefix come from the YAML; a service on all interfaces is called through loopback."""
    config = tmp_path / "a.yaml"
    config.write_text("http_options: {port: 8123}\napplications: [{import_path: a:b, route_prefix: /darkroom}]\n")
    assert read_endpoint(config) == Endpoint("0.0.0.0", 8123, "/darkroom", is_darkroom=False)  # noqa: S104  compared
    assert read_endpoint(config).url == "http://127.0.0.1:8123/darkroom"


def test_each_application_has_an_endpoint(tmp_path: Path) -> None:
    """Each application has its name and path, and all have the host and port of the file."""
    config = tmp_path / "a.yaml"
    config.write_text(
        "http_options: {host: 127.0.0.1}\napplications:\n"
        "- {name: cats, import_path: 'deployments.app:build_app', route_prefix: /models/cats}\n"
        "- {import_path: 'a:b'}\n"
    )
    assert read_endpoints(config) == [
        Endpoint("127.0.0.1", 8000, "/models/cats", "cats"),
        Endpoint("127.0.0.1", 8000, "/", "default", is_darkroom=False),
    ]


def test_a_configuration_that_can_be_read_only_once_is_refused(tmp_path: Path) -> None:
    """A configuration that can be read only once is refused.

    A pipe, as `<(...)` in a shell, would be empty for `serve run`.
    """
    os.mkfifo(tmp_path / "a.yaml")
    for config in (tmp_path / "a.yaml", Path("/dev/null"), Path("/dev/zero")):
        with pytest.raises(StartError, match=r"is no regular file, and it is read more than once"):
            read_endpoint(config)


@pytest.mark.parametrize("text", ["", "applications: []", "applications: [", "[1]", None])
def test_configuration_that_serve_would_refuse_is_named(tmp_path: Path, text: str | None) -> None:
    """A file that is missing, broken or without an application stops the start with its name."""
    config = tmp_path / "a.yaml"
    if text is not None:
        config.write_text(text)
    with pytest.raises(StartError, match=r"a\.yaml"):
        read_endpoint(config)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("decode: fast", "decoed: fast", r"pipeline\.decoed: no such key; did you mean decode\?"),
        ("top_k: 5", "top_k: 50", r"top_k: 50 is above max_top_k: 10; write"),
        ("slots: 256", "slots: 10", r"write slots: 64 or more"),
        (
            "max_ongoing_requests: 512",
            "max_ongoing_requests: 16",
            r"max_batch_size: 32 can never be filled .*; write max_ongoing_requests: 64 under args",
        ),
    ],
)
def test_bad_value_is_named_before_anything_starts(tmp_path: Path, old: str, new: str, says: str) -> None:
    """A bad value under args or user_config stops the start with one line: the key, the error and what to write."""
    config = tmp_path / "serve_config.yaml"
    config.write_text((ROOT / "tests/support/every_setting.yaml").read_text().replace(old, new))
    with pytest.raises(StartError, match=says):
        launch(config)


def test_both_families_are_asked_for_where_the_service_takes_both() -> None:
    """With host `::` the port must be free for IPv6 and for IPv4, because HAProxy listens on both."""
    assert needed_ports(Endpoint("::", 8000, "/"), {}) == [("::", 8000), ("0.0.0.0", 8000)]  # noqa: S104
    assert needed_ports(Endpoint("::1", 8000, "/"), {}) == [("::1", 8000)]


@pytest.mark.parametrize(("host", "url"), [("::1", "http://[::1]:8000"), ("::", "http://[::1]:8000")])
def test_an_ipv6_address_stands_in_brackets(host: str, url: str) -> None:
    assert Endpoint(host, 8000, "/").url == url
