"""Tests that a start takes over the speeds that an earlier one measured, and nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.model import runtimes
from pipeline.model.cpu import CpuDevice
from pipeline.model.device import ComputedAs, DeviceTrial
from pipeline.model.known_speeds import KnownSpeeds, Speeds
from pipeline.model.runtime import RuntimeChoice
from tests.conftest import SMALL
from tests.pipeline.model.test_runtimes import SAMPLES, SPEC, TORCH_S, Stub, classifier

SIZES = (1, 2)
TRIALS = (DeviceTrial("torch", "float32", TORCH_S), DeviceTrial("stub", "float32", None, 0.1, 0.2, "too slow"))
SPEEDS = Speeds(ComputedAs("a stub", "stub", "float32", TRIALS), {1: 0.5, 2: 0.7})


@pytest.fixture
def known(tmp_path: Path) -> KnownSpeeds:
    """Return a file that does not exist yet."""
    return KnownSpeeds.of(SMALL, 1, tmp_path)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    """Return a runtime that is quicker than torch."""
    stub = Stub({torch.float32: 0.5 * TORCH_S}, {})
    monkeypatch.setattr(runtimes, "RUNTIMES", {**runtimes.RUNTIMES, "stub": stub})
    monkeypatch.setattr(runtimes, "COMPARED_BY_AUTO", ("torch", "stub"))
    return stub


def start(known: KnownSpeeds, dtype: str = "float32") -> tuple[CpuDevice, dict[int, float]]:
    """Warm up a device; return it with the seconds of its batches."""
    device = CpuDevice(classifier(), SIZES, SPEC, 1, RuntimeChoice("auto", dtype, SAMPLES, known))
    return device, device.warm_up()


def test_the_second_start_measures_nothing(known: KnownSpeeds, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    device, seconds = start(known)
    assert known.read() == Speeds(device.computed_as, seconds)
    for module in ("cpu", "runtimes"):
        monkeypatch.setattr(f"pipeline.model.{module}.warm_seconds", lambda _: pytest.fail("was measured again"))
    assert start(known)[1] == seconds
    known.write(SPEEDS)
    again, taken = start(known)
    assert again.computed_as == SPEEDS.computed_as
    assert taken == SPEEDS.batch_s
    assert stub.source


def test_a_runtime_that_does_not_agree_any_more_is_not_taken_again(
    known: KnownSpeeds, stub: Stub, caplog: pytest.LogCaptureFixture
) -> None:
    """Agreement is compared at every start: the weights may be other ones."""
    known.write(SPEEDS)
    stub.added[torch.float32] = 0.5
    device, seconds = start(known)
    assert device.computed_as.runtime == "torch"
    assert known.read() == Speeds(device.computed_as, seconds)
    assert "a stub is not taken again: its scores differ by up to 0.5" in caplog.text


@pytest.mark.parametrize(
    ("runtime", "dtype"),
    [
        pytest.param("gone", "float32", id="a runtime that is not compared"),
        pytest.param("stub", "bfloat16", id="a number format that is not allowed"),
        pytest.param("stub", "float8", id="a number format that does not exist"),
    ],
)
def test_a_choice_that_is_not_allowed_is_not_taken_again(
    known: KnownSpeeds, stub: Stub, runtime: str, dtype: str
) -> None:
    known.write(replace(SPEEDS, computed_as=replace(SPEEDS.computed_as, runtime=runtime, dtype=dtype)))
    device, _ = start(known)
    assert device.computed_as.runtime in ("torch", "stub")
    assert device.computed_as.dtype == "float32"
    assert stub.source


def test_each_configuration_has_a_file_of_its_own(tmp_path: Path) -> None:
    KnownSpeeds.of(SMALL, 1, tmp_path).write(SPEEDS)
    assert KnownSpeeds.of(SMALL, 1, tmp_path).read() == SPEEDS
    assert KnownSpeeds.of(SMALL, 2, tmp_path).read() is None
    assert KnownSpeeds.of(SMALL.model_copy(update={"model": "resnet18"}), 1, tmp_path).read() is None


@pytest.mark.parametrize("content", [b"", b"{", b'{"batch_s": {"0": 1}}', b"\xff"])
def test_a_damaged_file_is_measured_anew(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "speeds.json"
    path.write_bytes(content)
    known = KnownSpeeds(path)
    assert known.read() is None
    assert f"{path} is ignored, and speeds are measured anew" in caplog.text
    known.write(SPEEDS)
    assert known.read() == SPEEDS


def test_a_folder_that_cannot_be_written_costs_only_the_speeds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = KnownSpeeds(tmp_path / "gone" / "speeds.json")
    known.write(SPEEDS)
    assert known.read() is None
    assert "speeds are not kept for the next start" in caplog.text
