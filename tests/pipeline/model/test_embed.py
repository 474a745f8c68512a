"""Tests of the head for embeddings."""

import base64
import json

import numpy as np
import pytest
import torch

from pipeline.model.embed import Embed, Embedding
from pipeline.result import as_text


def embeddings(outputs: torch.Tensor) -> list[Embedding]:
    head = Embed()
    head.check(outputs, len(outputs))
    return head.results(head.on_device(outputs), [])


def test_vectors_have_length_one() -> None:
    """Every vector is the module's output divided by its length, in float32; zeros stay zeros."""
    torch.manual_seed(0)
    outputs = torch.cat([100 * torch.randn(3, 64), torch.zeros(1, 64)])
    *found, zeros = [each.vector for each in embeddings(outputs)]
    for vector, output in zip(found, outputs, strict=False):
        assert vector.dtype == np.float32
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
        assert vector == pytest.approx((output / output.norm()).numpy(), abs=1e-7)
    assert not zeros.any()
    assert embeddings(outputs.to(torch.bfloat16))[0].vector.dtype == np.float32


def test_both_encodings_hold_the_same_numbers() -> None:
    """A list of numbers and base64 give back the same float32, bit by bit."""
    (result,) = embeddings(torch.randn(1, 1280, generator=torch.Generator().manual_seed(0)))
    numbers, text = (json.loads(as_text(result.as_json(encoding=encoding))) for encoding in ("json", "base64"))
    assert numbers["dimensions"] == text["dimensions"] == 1280
    assert np.array(numbers["embedding"], np.float32).tobytes() == result.vector.tobytes()
    assert np.frombuffer(base64.b64decode(text["embedding"]), "<f4").tobytes() == result.vector.tobytes()


def test_rows_for_people_and_for_programs() -> None:
    """A person reads the first numbers; a row of CSV has the whole vector as base64."""
    head = Embed()
    (result,) = embeddings(torch.eye(1, 8))
    shown = "8 dimensions:  1.0000   0.0000   0.0000   0.0000   0.0000   0.0000  ..."
    assert result.lines(encoding="json") == [shown]
    cells = dict(zip(head.columns(encoding="json"), result.cells(encoding="json"), strict=True))
    assert cells["dimensions"] == "8"
    assert np.frombuffer(base64.b64decode(cells["embedding_base64"]), "<f4").tolist() == [1, *[0] * 7]
