"""The kinds of device that tests run on: the CPU, and CUDA or, without a GPU, the CPU that poses as it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from harness.fake_cuda import pretend

GPU = torch.cuda.is_available()
STRICT = os.environ.get("FAIL_WITHOUT_CUDA") == "1"

KINDS = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
"""Parameters of fixtures and tests; `pytest -m cuda` runs those on CUDA alone."""


def needs_gpu(why: str) -> pytest.MarkDecorator:
    """Skip a test if there is no GPU; with FAIL_WITHOUT_CUDA=1 it runs, and fails."""
    return pytest.mark.skipif(not GPU and not STRICT, reason=f"no GPU, and {why}")


@contextmanager
def device_of(kind: str) -> Iterator[str]:
    """Provide a device of this kind within the block; at its end no two streams of a posing one may have raced."""
    if kind == "cpu" or GPU:
        yield kind
    elif STRICT:
        pytest.fail("FAIL_WITHOUT_CUDA=1, and this process sees no CUDA device")
    else:
        with pretend() as cuda:
            yield kind
        assert cuda.races == []
