"""Fixtures that many files share."""

from collections.abc import Iterator

import pytest

from pipeline.config import PipelineConfig
from pipeline.engine import Engine

PIPELINE = PipelineConfig(device="cpu", workers=2, threads=1, max_top_k=1000)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """A started engine in `fast` mode with two workers, which keeps all 1000 classes. Leave its limits as they are."""
    with Engine(PIPELINE) as engine:
        yield engine
