"""Tests of `darkroom predict`: labels of files on a disk."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from harness.local_service import shipped_config
from harness.photographs import jpeg, photograph
from harness.repository import ROOT
from tests.support.image_files import slow_png
from tests.support.typed import started, typed
from tests.support.waiting import until

CAT, ESPRESSO = jpeg(photograph("cat")), jpeg(photograph("espresso"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory, without a configuration."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _rows(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.read_bytes().splitlines()] if output.exists() else []


def _two_hundred(folder: Path) -> None:
    """Write 200 images, and a configuration that starts quickly."""
    for number in range(200):
        (folder / f"{number:03}.jpg").write_bytes(CAT)
    _quick_config(folder)


def _quick_config(folder: Path) -> None:
    """Write a configuration that compares no runtimes, which would take longer than most runs."""
    config = shipped_config()
    config["applications"][0]["args"]["pipeline"]["runtime"] = "torch"
    (folder / "serve_config.yaml").write_text(yaml.safe_dump(config))


def _started_by(process: psutil.Process) -> str:
    try:
        return process.environ().get("STARTED_BY", "")
    except psutil.Error:
        return ""


# ---- before anything starts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere.jpg"], "no such file or folder: nowhere.jpg"),
        (["empty"], "no file in empty ends in .jpg"),
        (["-"], "no names of files on the standard input"),
        (["a.jpg", "--output", "full.jsonl"], "full.jsonl is not empty; remove it first, or give another --output"),
        (["a.jpg", "--draw", "."], ". is not empty; give --draw a new folder, or remove what is in it"),
        (["a.jpg", "--output", "nowhere/o"], "cannot write nowhere/o: No such file or directory"),
        (
            ["a.jpg", "--parameter", "threshold"],
            "threshold has no value; write --parameter threshold=VALUE",
        ),
        (["a.jpg", "--top-k", "2", "--parameter", "top_k=3"], "the parameter top_k is given twice, as 2 and 3"),
        (["a.jpg", "--config", "nowhere.yaml"], "cannot read nowhere.yaml: No such file or directory"),
        (["a.jpg", "--config", "wrong.yaml"], "pipeline.decoed: no such key; did you mean decode?"),
        (["a.jpg", "--config", "other.yaml"], "no application has import_path: deployments.app:build_app"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(folder: Path, arguments: list[str], says: str) -> None:
    """An impossible command is refused by one sentence; no file is changed and no process started."""
    (folder / "a.jpg").write_bytes(CAT)
    (folder / "empty").mkdir()
    (folder / "full.jsonl").write_text("my diary")
    written = (ROOT / "tests/support/every_setting.yaml").read_text()
    (folder / "wrong.yaml").write_text(written.replace("decode: fast", "decoed: fast"))
    (folder / "other.yaml").write_text("applications: [{import_path: a:b}]")
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    said = typed("predict", *arguments, stdin=b"")
    assert (said.exit_code, said.stdout) == (2, "")
    assert says in said.stderr
    assert said.stderr.count("\n") == 1
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


# ---- runs -----------------------------------------------------------------------------------------------------------


def test_a_bad_file_costs_its_neighbours_nothing(folder: Path) -> None:
    """A bad file gets a row with its error, its neighbours get their predictions, and the exit status is 1."""
    for name, data in (("a.jpg", CAT), ("b.png", b"hello"), ("c.jpg", ESPRESSO), ("d.jpg", b""), ("e.jpg", CAT[:2000])):
        (folder / name).write_bytes(data)
    _quick_config(folder)
    said = typed("predict", ".", "--top-k", "2")
    rows = {row["file"]: row for row in map(json.loads, said.stdout.splitlines())}
    assert said.exit_code == 1
    assert list(rows) == ["./a.jpg", "./b.png", "./c.jpg", "./d.jpg", "./e.jpg"]
    assert rows["./a.jpg"]["predictions"][0]["label"] == "Egyptian cat"
    assert rows["./c.jpg"]["predictions"][0]["label"] == "espresso"
    assert [len(row["predictions"]) for row in rows.values() if "predictions" in row] == [2, 2]
    assert [row["error"]["title"] for row in rows.values() if "error" in row] == [
        "Unsupported format",
        "Empty image",
        "Undecodable image",
    ]
    assert said.stderr.splitlines()[0] == "darkroom: 3 of 5 files have no prediction:"
    assert "./d.jpg: Empty image" in said.stderr


def test_rows_come_in_order_however_long_an_image_takes(folder: Path) -> None:
    """Rows come in the order of the files, also when one image takes long.

    The name of the output decides the format.
    """
    for number in range(20):
        (folder / f"{number:02}.jpg").write_bytes(CAT)
    (folder / "10.jpg").write_bytes(slow_png())
    said = typed("predict", ".", "--output", "o.csv")
    assert (said.exit_code, said.stdout) == (0, "")
    with (folder / "o.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [f"./{number:02}.jpg" for number in range(20)]
    assert {row["label_1"] for row in rows if row["file"] != "./10.jpg"} == {"Egyptian cat"}


def test_ctrl_c_leaves_whole_rows_and_no_process(folder: Path) -> None:
    _two_hundred(folder)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "STARTED_BY": f"{os.getpid()}-predict"}
    command = [sys.executable, "-m", "commands.main", "predict", ".", "--output", "o.jsonl"]
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE)
    until(lambda: len(_rows(folder / "o.jsonl")) > 3)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    rows = _rows(folder / "o.jsonl")
    assert process.returncode == 130
    assert said.decode() == f"darkroom: stopped: {len(rows)} of 200 files are done\n"
    assert [row["file"] for row in rows] == [f"./{number:03}.jpg" for number in range(len(rows))]
    until(lambda: not any(_started_by(other) == environment["STARTED_BY"] for other in psutil.process_iter()))


def test_whoever_has_read_enough_ends_it_quietly(folder: Path) -> None:
    """A reader that closes the pipe, as `| head -1` does, ends the command without a message."""
    _two_hundred(folder)
    process = started("predict", ".", cwd=folder)
    assert process.stdout
    assert process.stderr
    assert json.loads(process.stdout.readline())["file"] == "./000.jpg"
    process.stdout.close()
    said = process.stderr.read()
    assert (process.wait(timeout=60), said) == (128 + signal.SIGPIPE, b"")
    process.stderr.close()


def test_an_engine_that_does_not_start_is_one_sentence(folder: Path) -> None:
    """An engine that cannot start, here for missing weights, is one sentence."""
    (folder / "a.jpg").write_bytes(CAT)
    written = (ROOT / "tests/support/every_setting.yaml").read_text()
    (folder / "serve_config.yaml").write_text(written.replace("weights: IMAGENET1K_V1", "weights: nowhere.pth"))
    said = typed("predict", "a.jpg")
    assert (said.exit_code, said.stdout) == (3, "")
    assert "nowhere.pth" in said.stderr
    assert said.stderr.count("\n") == 1
