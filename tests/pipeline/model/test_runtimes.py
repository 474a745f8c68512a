"""Tests of the choice among runtimes: the quickest is taken that agrees with the model itself."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from pipeline.errors import InvalidModel
from pipeline.input_spec import InputSpec
from pipeline.model import runtimes
from pipeline.model.agreement import noise
from pipeline.model.classify import Classify
from pipeline.model.device import ComputedAs
from pipeline.model.device_module import DeviceModule, dtype_name
from pipeline.model.intake import Normalise
from pipeline.model.runtime import CannotCompute, PreparedModel, RuntimeChoice, TracedSource
from pipeline.model.runtime_torch import TorchRuntime
from pipeline.model.runtimes import MAX_DIFFERENCE_IN_FLOAT32, choose

SPEC = InputSpec.of_pixels(16)
SAMPLES = noise(5, SPEC, seed=1)
TORCH_S = 1.0


def classifier() -> DeviceModule:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 16), nn.Flatten())
    return DeviceModule(network, Classify("abcd"), Normalise((0.5,) * 3, (0.5,) * 3), torch.float32)


@dataclass
class Stub:
    """A runtime whose speed and error are given, by number format.

    Attributes:
        seconds: of an image; a format that is missing is not offered.
        added: to all scores.
        raises: what `prepared` raises.
        missing: why it cannot be used at all.
    """

    seconds: dict[torch.dtype, float]
    added: dict[torch.dtype, float]
    raises: Exception | None = None
    missing: str = ""
    source: TracedSource | None = None

    def __call__(self, source: TracedSource, threads: int) -> "Stub":  # noqa: ARG002
        """Open itself, as an `OpenRuntime`."""
        self.source = source
        return self

    def dtypes(self) -> Sequence[torch.dtype]:
        """Return the formats whose speed is given."""
        if self.missing:
            raise CannotCompute(self.missing)
        return [*self.seconds]

    def prepared(self, dtype: torch.dtype, *, if_quick: bool = False) -> PreparedModel:  # noqa: ARG002
        """Return the model with the given error."""
        if self.raises:
            raise self.raises
        assert self.source
        module = self.source.module

        def compute(pixels: Tensor) -> tuple[Tensor, ...]:
            scores, classes = module(pixels)
            return scores + self.added.get(dtype, 0.0), classes

        return PreparedModel(module, compute, ComputedAs("a stub", "stub", dtype_name(dtype)))


Compare = Callable[..., ComputedAs]


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch) -> Compare:
    """Choose between torch, which takes a second for an image, and a stub."""

    def chosen(stub: Stub, runtime: str = "auto", dtype: str = "float32") -> ComputedAs:
        def image_s(_: object, prepared: PreparedModel) -> float:
            if prepared.computed_as.runtime == "torch":
                return TORCH_S
            return next(s for d, s in stub.seconds.items() if dtype_name(d) == prepared.computed_as.dtype)

        monkeypatch.setattr(runtimes._Search, "_image_s", image_s)
        monkeypatch.setattr(runtimes, "RUNTIMES", {"torch": TorchRuntime, "stub": stub})
        monkeypatch.setattr(runtimes, "COMPARED_BY_AUTO", ("torch", "stub"))
        return choose(TracedSource(classifier(), SPEC), RuntimeChoice(runtime, dtype, SAMPLES), 1).computed_as

    return chosen


F32, BF16 = torch.float32, torch.bfloat16


@pytest.mark.parametrize(
    ("stub", "expected", "refused"),
    [
        pytest.param(Stub({F32: 0.5}, {}), "stub", "", id="quicker"),
        pytest.param(Stub({F32: 0.5}, {F32: 0.9 * MAX_DIFFERENCE_IN_FLOAT32}), "stub", "", id="rounds differently"),
        pytest.param(Stub({F32: 0.96}, {}), "torch", "", id="no quicker than chance"),
        pytest.param(Stub({F32: 0.1}, {F32: 0.002}), "torch", "its scores differ by up to 0.002", id="disagrees"),
        pytest.param(Stub({F32: 0.1}, {F32: float("nan")}), "torch", "its scores differ by up to nan", id="NaN"),
        pytest.param(
            Stub({F32: 0.1}, {}, ValueError("no operator\nx")), "torch", "ValueError: no operator", id="fails"
        ),
        pytest.param(Stub({F32: 0.1}, {}, missing="not installed"), "torch", "not installed", id="missing"),
        pytest.param(Stub({BF16: 0.1}, {}), "torch", "no instructions for float32", id="other formats only"),
    ],
)
def test_auto_takes_the_quickest_runtime_that_agrees(
    compare: Compare, stub: Stub, expected: str, refused: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A runtime that disagrees, fails or is missing is not taken, and its reason is kept and logged."""
    with caplog.at_level(logging.INFO):
        computed = compare(stub)
    assert computed.runtime == expected
    (tried,) = (trial for trial in computed.trials if trial.runtime == "stub")
    assert refused in tried.refused
    assert bool(tried.refused) == bool(refused)
    assert refused in caplog.text
    assert "\nx" not in caplog.text


def test_a_number_format_is_chosen_together_with_the_runtime(compare: Compare) -> None:
    """An open format is taken if the runtime is quicker in it and agrees with float32 within 0.02."""
    quick = {F32: 0.9, BF16: 0.4}
    assert compare(Stub(quick, {BF16: 0.015}), dtype="auto").dtype == "bfloat16"
    assert compare(Stub(quick, {BF16: 0.025}), dtype="auto").dtype == "float32"


@pytest.mark.parametrize(
    ("added", "expected"), [({BF16: 0.1}, "stub"), ({F32: 0.1}, "torch"), ({BF16: float("nan")}, "torch")]
)
def test_a_format_that_is_configured_is_compared_in_float32(
    compare: Compare, added: dict[torch.dtype, float], expected: str
) -> None:
    """The user has chosen what the format rounds; that the runtime computes the same model is shown in float32."""
    computed = compare(Stub({F32: 0.5, BF16: 0.5}, added), dtype="bfloat16")
    assert (computed.runtime, computed.dtype) == (expected, "bfloat16")


@pytest.mark.parametrize(
    ("stub", "why"),
    [
        (Stub({F32: 0.1}, {}, ValueError("no operator")), "ValueError: no operator"),
        (Stub({F32: 0.1}, {F32: 0.5}), r"its scores differ by up to 0\.5, more than 0\.001"),
        (Stub({F32: 0.1}, {}, missing="not installed"), "not installed"),
    ],
)
def test_a_named_runtime_that_cannot_compute_the_model_fails_the_start(compare: Compare, stub: Stub, why: str) -> None:
    """A runtime that is named is taken or refused: no other is served in its place."""
    with pytest.raises(InvalidModel, match=f"^runtime: stub cannot compute this model: {why}; write runtime: auto$"):
        compare(stub, "stub")


def test_a_named_runtime_is_taken_although_it_is_slow(compare: Compare) -> None:
    assert compare(Stub({F32: 9 * TORCH_S}, {}), "stub").runtime == "stub"
