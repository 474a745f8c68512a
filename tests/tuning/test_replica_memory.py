"""Tests of the available memory, and of the memory that a replica may take."""

from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from deployments.live_config import LiveConfig
from pipeline.bounds import decode_memory_bytes
from tests.tuning.measured import BOUND_S, PRESENT, best_of, costs
from tuning.derived_settings import Sizes, settings_for
from tuning.replica_memory import ReplicaMemory, available_bytes

SETTINGS = settings_for(best_of(costs()), costs(), Sizes(60_000, 120_000), PRESENT, BOUND_S)


@pytest.mark.parametrize(
    "files",
    [
        {"memory.max": "1000000", "memory.current": "400000"},
        {"memory/memory.limit_in_bytes": "1000000", "memory/memory.usage_in_bytes": "400000"},
    ],
)
def test_a_container_may_have_less_than_the_machine(tmp_path: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert available_bytes(tmp_path) == 600_000


@pytest.mark.parametrize("limit", ["max", None])
def test_without_a_limit_the_machine_is_what_there_is(tmp_path: Path, limit: str | None) -> None:
    if limit:
        (tmp_path / "memory.max").write_text(limit)
        (tmp_path / "memory.current").write_text("400000")
    assert available_bytes(tmp_path) == pytest.approx(psutil.virtual_memory().available, rel=0.2)


def test_each_worker_may_need_what_the_largest_image_takes() -> None:
    """Each worker, the spare one included, may need the memory of the largest image."""
    memory = ReplicaMemory(8 << 30, 1 << 30, 30 << 20, 224, LiveConfig(max_image_pixels=10_000_000))

    def needed(workers: int) -> int:
        return memory.needed_bytes(replace(SETTINGS, decode_workers=workers))

    each = (30 << 20) + decode_memory_bytes(10_000_000)
    assert needed(3) - needed(2) == each
    assert needed(1) > (1 << 30) + SETTINGS.max_bytes_in_flight + 2 * each


def test_a_tenth_of_the_memory_is_left_for_what_nobody_foresees() -> None:
    needed = ReplicaMemory(0, 1 << 30, 30 << 20, 224, LiveConfig()).needed_bytes(SETTINGS)
    holding = [ReplicaMemory(int(factor * needed), 1 << 30, 30 << 20, 224, LiveConfig()) for factor in (1.0, 1.1, 1.12)]
    assert [memory.holds(SETTINGS) for memory in holding] == [False, False, True]
