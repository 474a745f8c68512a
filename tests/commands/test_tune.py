"""Tests of `darkroom tune`: from a folder of photographs to settings, and the errors on the way."""

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from deployments.checks.serve_faults import all_faults
from harness.local_service import Document
from harness.photographs import jpeg, photograph
from harness.ports import apart, free_port
from harness.repository import ROOT
from harness.seeded_models import seeded_file
from tests.support.typed import started, typed
from tests.support.waiting import until
from tuning.document import MEANINGS

SHIPPED = (ROOT / "serve_config.yaml").read_text()
SHIPPED_NARROW = re.sub(r"max_queue_wait_s: [0-9.]+", "max_queue_wait_s: 0.001", SHIPPED)
"""The shipped configuration, in which requests may hardly wait."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the working directory, with the shipped configuration on a free port and some photographs."""
    monkeypatch.chdir(tmp_path)
    for name, value in apart().items():
        monkeypatch.setenv(name, value)
    (tmp_path / "serve.env").write_text((ROOT / "serve.env").read_text())
    (tmp_path / "serve_config.yaml").write_text(SHIPPED.replace("port: 8000", f"port: {free_port()}"))
    (tmp_path / "photographs").mkdir()
    for name in ("cat", "espresso", "rocket"):
        (tmp_path / "photographs" / f"{name}.jpg").write_bytes(jpeg(photograph(name)))
    (tmp_path / "empty").mkdir()
    cores = os.sched_getaffinity(0)
    yield tmp_path
    os.sched_setaffinity(0, cores)


def _of_this_run(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("STARTED_BY") == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--images", "empty"], 2, "no file in empty ends in .jpg"),
        (["--images", "nowhere"], 2, "no such file or folder: nowhere"),
        (["--images", ""], 2, "an argument is empty"),
        (["--images", "-"], 2, "there are no names of files on the standard input"),
        (["--images", "pipe.html"], 2, "the image cannot be read: pipe.html: it is not a regular file"),
        (["--images", "photographs", "--config", "nowhere.yaml"], 1, "cannot read nowhere.yaml"),
        (
            ["--images", "photographs", "--config", "wrong.yaml"],
            1,
            "pipeline.decode_wokers: no such key; did you mean decode_workers?",
        ),
        (["--images", "photographs", "--config", "serves.yaml"], 1, "auto_scaling_config: no such key; did you mean"),
        (["--images", "photographs", "--config", "other.yaml"], 1, "no application has import_path: deployments.app"),
        (["--images", "photographs", "--quick"], 2, "No such option: --quick"),
        (["--images", "photographs", "--p99-ms", "0"], 2, "p99-ms"),
        (["--images", "photographs", "--p99-ms", "nan"], 2, "p99-ms"),
        (["--images", "photographs", "--images-per-request", "257"], 1, "is above max_images_per_request: 256"),
        (["--images", "large", "--images-per-request", "256"], 1, "above max_request_bytes: 134217728; write a larger"),
        (["--images", "photographs", "--report", "nowhere/r.html"], 1, "there is no folder"),
        (["--images", "photographs", "--report", "empty"], 1, "it is a folder; give a file, e.g. --report empty/dark"),
        (["--images", "photographs", "--report="], 2, "an argument is empty"),
        (["--images", "photographs", "--report", "pipe.html"], 1, "not a regular file"),
        (["--images", "photographs", "--report", "taken.html"], 1, "would go into taken.png, which is not a regular"),
        (
            ["--images", "photographs", "--report", "serve_config.yaml"],
            1,
            "the report is an HTML page; give a name that ends",
        ),
        (["--images", "photographs", "--report", "/proc/r.html"], 1, "cannot write the report to /proc/r.html: "),
        (["--images", "photographs", "--report", "a" * 300 + ".html"], 1, "File name too long; give another name"),
        (["--images", "photographs", "--report", "/dev/full/r.html"], 1, "cannot write the report to /dev/full/r.html"),
    ],
    ids=lambda value: " ".join(value)[-40:] if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_one_sentence(folder: Path, arguments: list[str], status: int, says: str) -> None:
    """An impossible command is refused before anything is measured; no file is changed or left behind."""
    (folder / "wrong.yaml").write_text(SHIPPED.replace("        model:", "        decode_wokers: 2\n        model:"))
    (folder / "serves.yaml").write_text(SHIPPED.replace("autoscaling_config", "auto_scaling_config"))
    (folder / "other.yaml").write_text(SHIPPED.replace("deployments.app:build_app", "other:app"))
    (folder / "large").mkdir()
    (folder / "large" / "noise.jpg").write_bytes(bytes(1 << 20))
    (folder / "taken.png").mkdir()
    os.mkfifo(folder / "pipe.html")
    before = sorted(folder.rglob("*"))
    said = typed("tune", *arguments)
    assert (said.exit_code, said.stdout) == (status, "")
    assert says in " ".join(said.stderr.replace("│", " ").split())
    assert "Traceback" not in said.stderr
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("missing", "named"),
    [(["matplotlib"], "matplotlib"), (["matplotlib", "ruamel"], "matplotlib and ruamel.yaml")],
    ids=len,
)
def test_the_extra_that_is_not_installed_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, missing: list[str], named: str
) -> None:
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    said = typed("tune", "--images", "photographs")
    assert (said.exit_code, said.stdout) == (1, "")
    assert said.stderr == f"darkroom: darkroom tune needs {named}: pip install 'darkroom[tune]'\n"
    assert not (folder / "darkroom-tune.html").exists()


def test_a_service_on_the_port_is_in_the_way(folder: Path) -> None:
    """A process that holds the port is named with the command that ends it, and nothing is measured beside it."""
    import socket

    port = yaml.safe_load((folder / "serve_config.yaml").read_text())["http_options"]["port"]
    with socket.create_server(("127.0.0.1", port)):
        said = typed("tune", "--images", "photographs")
    assert said.exit_code == 1
    assert said.stderr.startswith("darkroom: nothing was measured, since the service cannot be started here.\n")
    assert f"port {port}" in said.stderr
    assert f"pid {os.getpid()}" in said.stderr


def test_images_that_nobody_can_read_are_none(folder: Path) -> None:
    """A folder named `.jpg` and a file without an image in it do not count as images."""
    (folder / "empty" / "folder.jpg").mkdir()
    (folder / "empty" / "text.jpg").write_text("no image")
    said = typed("tune", "--images", "empty")
    assert said.exit_code == 1
    assert said.stderr.splitlines()[-1].startswith("darkroom: it is no image: empty/text.jpg: ")


@pytest.mark.slow
@pytest.mark.parametrize(
    "at", ["starting the service with the present settings", "stopping the service, and the report"]
)
def test_ctrl_c_leaves_a_report_and_no_process(folder: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """Ctrl-C, early or late, leaves a report of the measurements, no process, and an unchanged configuration."""
    before = (folder / "serve_config.yaml").read_text()
    monkeypatch.setenv("STARTED_BY", mark := f"{os.getpid()}-tune")
    with (folder / "said").open("wb") as said:
        arguments = ("--images", "photographs", "--write", "--p99-ms", "2000")
        process = started("tune", *arguments, cwd=folder, stderr=said)
        until(lambda: at in (folder / "said").read_text(), timeout_s=180)
        until(lambda: any("raylet" in other.name() for other in _of_this_run(mark)), timeout_s=60)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert (folder / "said").read_text().splitlines()[-1] == (
        "darkroom: stopped; nothing was changed. The report is darkroom-tune.html"
    )
    page = (folder / "darkroom-tune.html").read_text()
    assert f"Not finished: it was stopped at: {at}" in page
    assert "Decoding" in page
    assert (folder / "darkroom-tune.png").exists()
    assert (folder / "serve_config.yaml").read_text() == before
    until(lambda: not _of_this_run(mark))


@pytest.mark.slow
def test_a_run_writes_settings_that_hold(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole run without a bound writes its settings, keeps the comments and shows a diff.

    Runs with a bound are tested in `test_proving.py`.
    """
    monkeypatch.setenv("STARTED_BY", mark := f"{os.getpid()}-tune")
    before = SHIPPED_NARROW.replace("port: 8000", f"port: {_port(folder)}")
    (folder / "serve_config.yaml").write_text(before)
    arguments = ("--images", "photographs", "--write", "--report", "out.html")
    process = started("tune", *arguments, cwd=folder)
    out, err = (stream.decode() for stream in process.communicate(timeout=400))
    assert process.returncode == 0, err
    assert err.splitlines()[-1].startswith("darkroom: serve_config.yaml has been changed; ")
    assert err.splitlines()[-1].endswith(". The report is out.html")
    for part in ("No --p99-ms was given", "Peak: ", "Bottleneck: ", "Recommended"):
        assert part in " ".join(out.split())
    assert "none was refused" in " ".join(out.split())
    assert "--- serve_config.yaml\n+++ serve_config.yaml (tuned)\n" in out
    after = (folder / "serve_config.yaml").read_text()
    document = yaml.safe_load(after)
    assert all_faults(document, {}) == []
    assert "# any classification model of torchvision" in after
    assert f"# {MEANINGS['max_queue_wait_s']}" in after  # the old comment has figures of the old value
    (deployment,) = document["applications"][0]["deployments"]
    assert deployment["user_config"]["max_queue_wait_s"] > 0.001  # the old value refused the measured load
    assert document["http_options"] == yaml.safe_load(before)["http_options"]
    assert deployment["autoscaling_config"]["max_replicas"] == 4
    page = (folder / "out.html").read_text()
    assert "Settings, now and as recommended" in page
    assert "Not finished" not in page
    assert (folder / "out.png").read_bytes().startswith(b"\x89PNG")
    until(lambda: not _of_this_run(mark))


def _port(folder: Path) -> int:
    port: int = yaml.safe_load((folder / "serve_config.yaml").read_text())["http_options"]["port"]
    return port


def _own(_: Path) -> Document:
    return {"model": "examples.pets:build", "model_args": {"seed": 7}}


def _detector(folder: Path) -> Document:
    name = "fasterrcnn_mobilenet_v3_large_320_fpn"
    (folder / "labels.txt").write_text("background\ncat\ndog\nbird\n")
    return {"model": name, "weights": str(seeded_file(folder, name, 4)), "labels": str(folder / "labels.txt")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pipeline", "says"), [(_own, "Your transform runs as it is"), (_detector, "")], ids=["own function", "detector"]
)
def test_other_models_are_tuned(folder: Path, pipeline: Callable[[Path], Document], says: str) -> None:
    """A run succeeds for a model of the user's own with its own transform, and where images keep their sizes."""
    config = yaml.safe_load((folder / "serve_config.yaml").read_text())
    config["applications"][0]["args"]["pipeline"] = {**pipeline(folder), "runtime": "torch"}
    (folder / "serve_config.yaml").write_text(yaml.safe_dump(config))
    process = started("tune", "--images", "photographs", cwd=folder)
    out, err = (stream.decode() for stream in process.communicate(timeout=400))
    assert process.returncode in (0, 1), err  # 1: none are better than the present ones
    told = " ".join(out.split())
    assert "Peak: " in told
    assert says in told
    assert "Traceback" not in err
