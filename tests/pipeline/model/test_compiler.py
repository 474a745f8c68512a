"""Tests of `runtime: compile`: the model's own answers in batches of any size, and nothing left behind."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from torch import Tensor, nn

from harness.repository import ROOT
from pipeline.errors import InvalidModel
from pipeline.input_spec import InputSpec
from pipeline.model.agreement import noise
from pipeline.model.classify import Classify
from pipeline.model.compiler import compiled_for_cuda, end_compiler_processes
from pipeline.model.cuda import CudaDevice
from pipeline.model.device_module import DeviceModule
from pipeline.model.intake import Normalise
from pipeline.model.runtime import PreparedModel, RuntimeChoice, TracedSource
from pipeline.model.runtime_compile import CompileRuntime
from pipeline.model.runtimes import choose
from pipeline.model.torchscript import Compute
from tests.support.device_kinds import device_of, needs_gpu

SPEC = InputSpec.of_pixels(16)
THREADS = 2
REFUSED = r"^runtime: compile cannot compute this model: .*; write runtime: auto$"


def classifier(network: nn.Module) -> DeviceModule:
    return DeviceModule(network, Classify((), 5), Normalise((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)), torch.float32).eval()


def small() -> DeviceModule:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU6(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    return classifier(nn.Sequential(*layers, nn.Linear(16, 10)))


def agrees(rows: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> bool:
    return rows[0].allclose(expected[0], atol=1e-5) and rows[1].equal(expected[1])


class _WithoutProgram(nn.Module):
    """A model that torch cannot export, as it computes in NumPy, and that decides by no value of its input."""

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [n, 3]."""
        return torch.from_numpy(images.mean((2, 3)).cpu().numpy().copy()).to(images.device)


@pytest.fixture(scope="module")
def compiled() -> PreparedModel:
    """Return the small model, compiled once."""
    return CompileRuntime(TracedSource(small(), SPEC), THREADS).prepared(torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize("images", [1, 2, 3, 17])
def test_one_program_computes_batches_of_any_size(compiled: PreparedModel, images: int) -> None:
    pixels = noise(images, SPEC, seed=images)
    with torch.inference_mode():
        assert agrees(compiled.compute(pixels), small()(pixels))


@pytest.mark.slow
def test_outputs_are_not_overwritten_by_the_next_batch(compiled: PreparedModel) -> None:
    first = compiled.compute(noise(1, SPEC, seed=1))
    before = first[0].clone()
    compiled.compute(noise(1, SPEC, seed=2))
    assert first[0].equal(before)


@pytest.mark.slow
def test_threads_compute_at_a_time_each_its_own_batches(compiled: PreparedModel) -> None:
    """More threads than the program was made for wait for each other, and get their own answers too."""
    module, right = small(), list[bool]()

    def work(seed: int) -> None:
        with torch.inference_mode():
            for turn in range(20):
                pixels = noise(2, SPEC, seed=100 * seed + turn)
                right.append(agrees(compiled.compute(pixels), module(pixels)))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(THREADS + 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 20 * (THREADS + 1)


@pytest.mark.parametrize("dtype", ["float32", "auto"])
def test_without_a_compiler_the_start_says_so(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    choice = RuntimeChoice("compile", dtype, noise(4, SPEC, seed=0))
    with pytest.raises(
        InvalidModel, match=r"^runtime: compile cannot compute .* no C\+\+ compiler .*; write runtime: auto"
    ):
        choose(TracedSource(small(), SPEC), choice, 1)


def test_a_model_that_cannot_be_compiled_ends_the_start() -> None:
    """A model that torch cannot export is not served in another way than the configuration says."""
    choice = RuntimeChoice("compile", "float32", noise(4, SPEC, seed=0))
    with pytest.raises(
        InvalidModel, match=r"^runtime: compile cannot compute this model: .*; write runtime: auto"
    ) as told:
        choose(TracedSource(classifier(_WithoutProgram()), SPEC), choice, 1)
    assert "\n" not in str(told.value)


@pytest.mark.slow
def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """A program that compiles a model leaves no process, and no file in the folders that all users share."""
    program = """
import os, psutil, torch
from tests.pipeline.model.test_compiler import SPEC, CompileRuntime, TracedSource, noise, small
compute = CompileRuntime(TracedSource(small(), SPEC), 1).prepared(torch.float32).compute
print(len(psutil.Process().children()), oct(os.stat(os.environ["TORCHINDUCTOR_CACHE_DIR"]).st_mode)[-3:])
compute(noise(3, SPEC, seed=0))
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert (done.returncode, done.stdout) == (0, "0 700\n"), done.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.slow
def test_kernels_are_compiled_for_more_batch_sizes_than_torch_does_by_itself() -> None:
    module = small()
    compute = compiled_for_cuda(module, noise(1, SPEC, seed=0))
    try:
        for images in range(1, 11):
            pixels = noise(images, SPEC, seed=images)
            with torch.inference_mode():
                assert agrees(compute(pixels), module(pixels))
    finally:
        end_compiler_processes()
    assert psutil.Process().children() == []


@needs_gpu("torch compiles nothing for the CPU that poses as one")
@pytest.mark.cuda
def test_compiled_kernels_are_recorded_on_cuda() -> None:
    """On CUDA the kernels that torch has compiled are recorded, for more batch sizes than torch would compile."""
    sizes = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
    module = small()
    device = CudaDevice(module, sizes, SPEC, compiles=True)
    assert tuple(device.warm_up()) == sizes
    assert device.computed_as.way == "CUDA graphs of compiled kernels"
    for images in (1, 9, 10):
        pixels = noise(images, SPEC, seed=images)
        rows = tuple(device._computed(pixels).rows.values())
        assert agrees(rows, tuple(row.cpu() for row in module(pixels.to(module.device))))


def _wrong(module: DeviceModule, _: Tensor) -> Compute:
    """Stand in for a compiler with a defect: all scores are too high."""
    return lambda pixels: (module(pixels)[0] + 0.1, module(pixels)[1])


def _raising(_module: DeviceModule, _examples: Tensor) -> Compute:
    raise RuntimeError("no kernel\nmore")


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("compiler", "why"), [(_raising, "RuntimeError: no kernel"), (_wrong, r"its scores differ by up to 0\.1")]
)
def test_kernels_that_fail_or_disagree_end_the_start(
    compiler: Callable[..., Compute], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On CUDA the model is not served in another way than the configuration says; the compiler here is a stand-in."""
    monkeypatch.setattr("pipeline.model.cuda.compiled_for_cuda", compiler)
    with device_of("cuda"):
        device = CudaDevice(small(), (1, 2), SPEC, compiles=True)
        with pytest.raises(InvalidModel, match=f"^runtime: compile cannot .*: {why}; write runtime: auto$"):
            device.warm_up()
