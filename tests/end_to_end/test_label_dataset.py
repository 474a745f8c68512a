"""Tests of `examples/label_dataset.py`: Ray Data with an engine on each node, also when a node is lost."""

import asyncio
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

pytest.importorskip("pandas", reason="needs the extra `data`, which `make slow` installs")

import pyarrow as pa
import pyarrow.parquet as pq

from examples.label_dataset import CONFIG, Labeller
from harness.machines import unsupported_reason
from harness.ray_cluster import RayCluster
from tests.support.judged_load import LABELS, small_picture

NOT_IMITATED = unsupported_reason()
PHOTOGRAPHS = 240


def _best(prediction: str | None) -> str:
    label: str = json.loads(prediction or "null")["predictions"][0]["label"]
    return label


def _is_right(name: str, row: dict[str, str | None]) -> bool:
    """Check that a row has the label of the photograph that names its file, or the error of a broken one."""
    if name == "broken":
        return row["prediction"] is None and "image" in str(row["error"])
    return row["error"] is None and _best(row["prediction"]) == LABELS[name]


@pytest.mark.slow
def test_a_batch_keeps_its_other_columns_and_its_order(tmp_path: Path) -> None:
    """Each row has its own prediction or error beside its other columns; a row without an image has an error."""
    names = [*LABELS, "broken", "broken"]
    images = [small_picture(name) for name in LABELS] + [b"no image", None]
    labeller = Labeller("photo", str(tmp_path), CONFIG.model_copy(update={"runtime": "torch"}))
    for _ in range(2):  # as after the loss of a node
        counted = asyncio.run(labeller(pa.table({"photo": images, "name": names})))
        assert counted.to_pydict() == {"rows": [len(names)]}
    del labeller
    (file,) = tmp_path.iterdir()
    rows = pq.read_table(file)
    assert {each.name: each.type for each in rows.schema} == dict.fromkeys(rows.column_names, pa.string())
    assert rows.column_names == ["name", "prediction", "error"]
    found = rows.to_pylist()
    assert [row["name"] for row in found] == names
    assert all(_is_right(row["name"], row) for row in found), found


@pytest.fixture
def photographs(shared_folder: Path) -> Path:
    """Return a folder with photographs, one in twelve of them broken; each is named after what it shows."""
    folder = shared_folder / "photographs"
    folder.mkdir()
    names = [*LABELS]
    for number in range(PHOTOGRAPHS):
        name = names[number % len(names)]
        is_broken = number % 12 == 7
        data = b"no image" if is_broken else small_picture(name)
        (folder / f"{'broken' if is_broken else name}-{number}.jpg").write_bytes(data)
    return folder


def _rows(labels: Path) -> list[dict[str, str | None]]:
    found: list[dict[str, str | None]] = pq.read_table(labels).to_pylist()
    return found


def _check(rows: Iterable[dict[str, str | None]], photographs: Path) -> None:
    """Assert that each photograph has one row, which is right."""
    by_name = {Path(str(row["path"])).name: row for row in rows}
    assert by_name.keys() == {path.name for path in photographs.iterdir()}
    wrong = [row for name, row in by_name.items() if not _is_right(name.partition("-")[0], row)]
    assert not wrong


@pytest.mark.slow
@pytest.mark.skipif(NOT_IMITATED is not None, reason=f"{NOT_IMITATED}")
@pytest.mark.parametrize("loses_a_node", [False, True], ids=["all nodes", "a node is lost"])
def test_every_file_has_its_row(tmp_path: Path, shared_folder: Path, photographs: Path, *, loses_a_node: bool) -> None:
    """Every file of a folder has its row once, from engines on two nodes, even if one is switched off meanwhile."""
    labels = shared_folder / "labels"
    program = [sys.executable, "-m", "examples.label_dataset", str(photographs), str(labels), "--engines", "2"]
    with RayCluster(tmp_path) as cluster, (tmp_path / "program.txt").open("wb") as sink:
        cluster.add("one", cpus=3)
        cluster.add("two", cpus=3)
        environment = {**cluster.environment, "RAY_ADDRESS": f"{cluster.head.address}:6379"}
        running = cluster.head.start(program, environment, sink)
        if loses_a_node:
            cluster.wait_until(lambda: bool([*labels.glob("*.parquet")]), "the first labels are written")
            cluster.nodes["two"].switch_off()
        assert running.wait(300) == 0, (tmp_path / "program.txt").read_text()[-3000:]
    rows = _rows(labels)
    assert len(rows) == PHOTOGRAPHS
    _check(rows, photographs)


@pytest.mark.slow
@pytest.mark.skipif(NOT_IMITATED is not None, reason=f"{NOT_IMITATED}")
def test_a_column_of_parquet_files_is_labelled(tmp_path: Path, shared_folder: Path) -> None:
    """The images of a Parquet column are labelled; the other columns stay."""
    names = [*LABELS] * 5
    table = pa.table({"id": names, "photo": [small_picture(name) for name in names]})
    pq.write_table(table, shared_folder / "photographs.parquet")
    labels = shared_folder / "labels"
    program = [sys.executable, "-m", "examples.label_dataset", str(shared_folder / "photographs.parquet"), str(labels)]
    with RayCluster(tmp_path) as cluster:
        cluster.add("one", cpus=3)
        environment = {**cluster.environment, "RAY_ADDRESS": f"{cluster.head.address}:6379"}
        done = cluster.head.run([*program, "--column", "photo"], environment, timeout_s=300)
        assert done.returncode == 0, done.stderr[-3000:]
    rows = _rows(labels)
    assert sorted(str(row["id"]) for row in rows) == sorted(names)
    assert all(_is_right(str(row["id"]), row) for row in rows)
