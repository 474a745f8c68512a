"""Tests of the default numbers of workers and concurrent batches."""

import pytest

from pipeline.config import PipelineConfig
from pipeline.model.device_kind import EngineSizes, resolved_sizes


@pytest.mark.parametrize(
    ("device_kind", "cores", "config", "sizes"),
    [
        ("cpu", 1, PipelineConfig(), (1, 1, 1)),
        ("cpu", 2, PipelineConfig(), (1, 2, 2)),
        ("cpu", 16, PipelineConfig(), (2, 15, 16)),
        ("cpu", 16, PipelineConfig(concurrent_batches=4), (2, 3, 4)),
        ("cpu", 4, PipelineConfig(decode_workers=8), (8, 1, 4)),
        ("cpu", 4, PipelineConfig(spare_workers=0), (1, 0, 4)),
        ("cpu", 128, PipelineConfig(), (16, 16, 128)),
        ("cuda", 16, PipelineConfig(), (16, 1, 1)),
        ("cuda", 16, PipelineConfig(decode_workers=1, concurrent_batches=4), (1, 1, 4)),
        ("cuda", 2, PipelineConfig(decode_workers=1, spare_workers=3), (1, 3, 1)),
    ],
)
def test_spare_workers_bring_the_workers_to_one_more_than_the_batches(
    device_kind: str,
    cores: int,
    config: PipelineConfig,
    sizes: tuple[int, int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By default every core that computes batches can decode instead, and one worker more takes no costly image.

    There are no more than 32 workers for that.
    """
    monkeypatch.setattr("pipeline.model.device_kind.usable_cores", lambda: cores)
    assert resolved_sizes(config, device_kind) == EngineSizes(*sizes)
