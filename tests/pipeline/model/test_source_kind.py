"""Tests of where a model comes from, by the spelling of its name."""

import pytest

from pipeline.model.catalogue import names_fault
from pipeline.model.source_kind import SourceKind, has_named_weights, source_kind

DIGEST = "0" * 64


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("mobilenet_v2", SourceKind.TORCHVISION),
        ("timm:resnet50.a1_in1k", SourceKind.TIMM),
        ("birds.pt2", SourceKind.FILE),
        ("./birds", SourceKind.FILE),
        (f"/models/birds.onnx#sha256={DIGEST}", SourceKind.FILE),
        (f"s3://models/birds.pt?version=2#sha256={DIGEST}", SourceKind.FILE),
    ],
)
def test_the_spelling_tells_the_source(model: str, kind: SourceKind) -> None:
    """A model file is never taken for a wrong name, and has no weights beside it."""
    assert source_kind(model) is kind
    assert has_named_weights(model) is (kind is not SourceKind.FILE)
    assert names_fault(model, "own.pth") is None


def test_a_model_of_timm_needs_a_file_of_weights() -> None:
    fault = names_fault("timm:resnet50", "IMAGENET1K_V1")
    assert fault is not None
    assert fault[0] == "weights"
    assert "for timm:resnet50 write the path of a file, or a URL with #sha256=..." in fault[1]
