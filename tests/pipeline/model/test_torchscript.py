"""Tests of a model as a TorchScript graph: the same answers, or else the model itself."""

import logging
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from harness.repository import ROOT
from pipeline.input_spec import InputSpec
from pipeline.model.classify import Classify
from pipeline.model.device_module import DeviceModule
from pipeline.model.intake import Normalise
from pipeline.model.torchscript import as_graph

SIDE = 64
SPEC = InputSpec.of_pixels(SIDE)


def classifier(backbone: nn.Module, dtype: torch.dtype = torch.float32) -> DeviceModule:
    return DeviceModule(backbone, Classify((), 5), Normalise((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)), dtype)


def trained(name: str) -> nn.Module:
    """Return a model with random weights, and batch norm statistics unlike those of a new model."""
    torch.manual_seed(0)
    backbone: nn.Module = models.get_model(name, weights=None, num_classes=10)
    with torch.no_grad():
        for _ in range(3):
            backbone(torch.randn(8, 3, SIDE, SIDE))
    return backbone


def pixels(images: int) -> Tensor:
    return torch.randint(256, (images, SIDE, SIDE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize(
    "name", ["mobilenet_v2", "mobilenet_v3_small", "resnet18", "squeezenet1_1", "shufflenet_v2_x0_5"]
)
def test_a_graph_answers_as_the_model(name: str) -> None:
    """A graph gives the model's answers, also for batch sizes that it was not traced with."""
    model = classifier(trained(name))
    graph = as_graph(model, SPEC)
    assert isinstance(graph, torch.jit.ScriptModule)
    for images in (1, 4, 9):
        with torch.inference_mode():
            scores, classes = graph(pixels(images))
            expected, best = model(pixels(images))
        assert scores.allclose(expected, atol=1e-5)
        assert classes.equal(best)


def test_batch_norm_is_folded() -> None:
    """Batch norm is folded, which removes half of the operations."""
    graph = as_graph(classifier(trained("mobilenet_v2")), SPEC)
    assert isinstance(graph, torch.jit.ScriptModule)
    kinds = [node.kind() for node in graph.graph.nodes()]
    assert "aten::_convolution" in kinds
    assert "aten::batch_norm" not in kinds


class BranchingOnInput(nn.Module):
    """A model that computes differently for batches of two images."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits [n, 2]."""
        logits = images.mean((2, 3))[:, :2]
        return logits if len(images) == 2 else -9 * logits


class Refusing(nn.Module):
    """A model that cannot be traced, because it branches on its input."""

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [n, 2]; raise while it is traced."""
        if torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
            raise ValueError("not like this\nand more")
        return images.mean((2, 3))[:, :2]


@pytest.mark.parametrize(
    ("backbone", "reason"),
    [(BranchingOnInput(), "its scores differ by up to"), (Refusing(), "ValueError: not like this")],
)
def test_a_model_that_cannot_be_traced_computes_as_it_was_loaded(
    backbone: nn.Module, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = classifier(backbone)
    with caplog.at_level(logging.WARNING):
        assert as_graph(model, SPEC) is model
    assert reason in caplog.text
    assert "and more" not in caplog.text


def test_preparing_a_model_does_not_load_torchs_compiler() -> None:
    """The compiler would take 2 s of the start of each replica."""
    program = """
import sys, torch
from torch import nn
from pipeline.input_spec import InputSpec
from pipeline.model.classify import Classify
from pipeline.model.device_module import DeviceModule
from pipeline.model.intake import Normalise
from pipeline.model.torchscript import as_graph
network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
module = DeviceModule(network, Classify((), 2), Normalise((0.5,) * 3, (0.5,) * 3), torch.float32)
assert as_graph(module, InputSpec.of_pixels(32)) is not module
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
