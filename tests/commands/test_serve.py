"""Tests of `darkroom serve`, which does the same as `make serve`.

The launcher's own tests start and stop real services.
"""

import socket
from pathlib import Path

import pytest

from harness.ports import apart, free_port
from harness.repository import ROOT
from tests.support.typed import typed


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working directory whose ports are none that a Darkroom on this machine would use."""
    monkeypatch.chdir(tmp_path)
    for name, value in apart().items():
        monkeypatch.setenv(name, value)
    return tmp_path


def test_a_missing_configuration_is_named(folder: Path) -> None:
    """A missing configuration is named; it is looked for in the working directory."""
    said = typed("serve")
    assert said.exit_code == 1
    assert said.stderr == "darkroom: cannot read serve_config.yaml: No such file or directory\n"
    assert list(folder.iterdir()) == []


def test_a_wrong_configuration_is_refused(folder: Path) -> None:
    """A wrong configuration is refused before any process starts, with the path of the key."""
    config = folder / "other.yaml"
    config.write_text((ROOT / "tests/support/every_setting.yaml").read_text().replace("decode: fast", "decoed: fast"))
    said = typed("serve", "other.yaml")
    assert said.exit_code == 1
    assert said.stderr == (
        "darkroom: other.yaml: applications.0.args.pipeline.decoed: no such key; did you mean decode?\n"
    )


def test_new_starts_are_counted_from_none_on(folder: Path) -> None:
    assert folder
    said = typed("serve", "--new-starts", "-1")
    assert said.exit_code == 2
    assert "--new-starts" in said.stderr


def test_a_taken_port_is_named(folder: Path) -> None:
    port = free_port()
    config = folder / "serve_config.yaml"
    config.write_text((ROOT / "serve_config.yaml").read_text().replace("port: 8000", f"port: {port}"))
    with socket.create_server(("127.0.0.1", port)):
        said = typed("serve")
    assert said.exit_code == 1
    assert "nothing was started" in said.stderr
    assert f"port {port}" in said.stderr
