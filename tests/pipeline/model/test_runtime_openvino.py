"""Tests of OpenVINO as the runtime: the model's own answers, in batches of any size and in several threads."""

import math
import os
import subprocess
import sys
import threading
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor, nn

from harness.repository import ROOT
from pipeline.config import PipelineConfig
from pipeline.input_spec import InputSpec
from pipeline.model.agreement import noise
from pipeline.model.classify import Classify
from pipeline.model.device_module import DeviceModule
from pipeline.model.intake import Normalise
from pipeline.model.precision import scenes
from pipeline.model.reference import Reference
from pipeline.model.runtime import PreparedModel, RuntimeChoice, TracedSource
from pipeline.model.runtime_openvino import OpenVinoRuntime
from pipeline.model.runtimes import MAX_DIFFERENCE_IN_FLOAT32, choose
from pipeline.model.source import load_model

if not find_spec("openvino"):  # not imported here, as that alone would be reported to its makers
    pytest.skip("OpenVINO is an extra: pip install 'darkroom[openvino]'", allow_module_level=True)

SPEC = InputSpec.of_pixels(32)


def classifier(network: nn.Module) -> DeviceModule:
    return DeviceModule(network, Classify((), 5), Normalise((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)), torch.float32)


def small() -> DeviceModule:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU6(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    return classifier(nn.Sequential(*layers, nn.Linear(32, 10)))


def prepared(module: DeviceModule, threads: int = 1, dtype: torch.dtype = torch.float32) -> PreparedModel:
    return OpenVinoRuntime(TracedSource(module, SPEC), threads).prepared(dtype)


def agrees(rows: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> bool:
    return rows[0].allclose(expected[0], atol=1e-5, equal_nan=True) and rows[1].equal(expected[1])


@pytest.mark.parametrize("images", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("kept", [None, 4, 1])
def test_a_batch_of_any_size_is_computed(images: int, kept: int | None) -> None:
    """A size that is not compiled is computed in parts, also when larger sizes have been freed."""
    module = small()
    model, pixels = prepared(module), noise(images, SPEC, seed=images)
    model.prepare_for(4)
    if kept:
        model.keep_up_to(kept)
        model.prepare_for(7)  # too late: the rest was freed
    with torch.inference_mode():
        assert agrees(model.compute(pixels), module(pixels))
        assert agrees(model.compute(pixels[:0].new_zeros(pixels.shape)), module(torch.zeros_like(pixels)))


def test_outputs_are_not_overwritten_by_the_next_batch() -> None:
    model = prepared(small())
    first = model.compute(noise(1, SPEC, seed=1))
    before = first[0].clone()
    model.compute(noise(1, SPEC, seed=2))
    assert first[0].equal(before)


def test_threads_compute_at_a_time_each_its_own_batches() -> None:
    """Threads share the model and not their memory; none of them is bound to a core."""
    module = small()
    model, cores = prepared(module, threads=2), os.sched_getaffinity(0)
    right = []

    def work(seed: int) -> None:
        with torch.inference_mode():
            for turn in range(20):
                pixels = noise(2, SPEC, seed=100 * seed + turn)
                right.append(agrees(model.compute(pixels), module(pixels)))
        right.append(os.sched_getaffinity(threading.get_native_id()) == cores)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 63


def test_float32_is_float32_where_the_processor_has_bfloat16() -> None:
    """OpenVINO would take bfloat16 by itself on such a processor, and scores would differ by some hundredths."""
    model = prepared(small())
    (compiled,) = model._compiled.values()  # type: ignore[attr-defined]
    assert str(compiled.get_property("INFERENCE_PRECISION_HINT")) == "<Type: 'float32'>"


def test_a_float_input_is_computed() -> None:
    """A tensor from a transform of the user's own reaches the module as it is."""
    spec = InputSpec((3, 32, 32), torch.float32)
    module = DeviceModule(small().module, Classify((), 5), nn.Identity(), torch.float32).eval()
    inputs = noise(3, spec, seed=0)
    with torch.inference_mode():
        assert agrees(
            OpenVinoRuntime(TracedSource(module, spec), 1).prepared(torch.float32).compute(inputs), module(inputs)
        )


class _Logarithm(nn.Module):
    """A model whose logits are NaN where a channel is darker than the mean that is subtracted."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logarithms of the channels' means as logits."""
        return pixels.mean((2, 3)).log()


def test_an_image_whose_scores_are_nan_leaves_its_neighbours() -> None:
    module = DeviceModule(_Logarithm(), Classify((), 3), Normalise((0.25,) * 3, (1.0,) * 3), torch.float32)
    pixels = torch.stack([torch.full((32, 32, 3), level, dtype=torch.uint8) for level in (200, 0, 150)])
    model = prepared(module)
    model.prepare_for(3)
    scores = model.compute(pixels)[0]
    assert [bool(row.isnan().all()) for row in scores] == [False, True, False]
    assert not scores[0].isnan().any()


def test_a_model_whose_scores_are_nan_is_not_taken() -> None:
    """A ReLU of the processor drops NaN, so the answers would look finite: torch answers, and the start finds NaN."""
    module = small()
    with torch.no_grad():
        next(module.module.parameters())[0] = math.nan
    chosen = choose(TracedSource(module, SPEC), RuntimeChoice("auto", "float32", noise(4, SPEC, seed=0)), 1)
    assert chosen.computed_as.runtime == "torch"
    assert "nan" in chosen.computed_as.trials[-1].refused


def test_the_default_model_agrees() -> None:
    """mobilenet_v2 with its weights, on images like photographs."""
    served = load_model(PipelineConfig(device="cpu"))
    module, spec = DeviceModule.of(served), served.preprocess.input_spec
    samples = scenes(4, 224)
    model = OpenVinoRuntime(TracedSource(module, spec), 1).prepared(torch.float32)
    model.prepare_for(2)
    rows = module.named(model.compute(samples))
    assert Reference(module, samples).difference(rows) < MAX_DIFFERENCE_IN_FLOAT32 / 10


def test_signals_still_have_a_stack() -> None:
    """After models have been compiled and freed, a signal reaches Python's handler and does not end the process."""
    program = """
import gc, os, signal
from tests.pipeline.model.test_runtime_openvino import prepared, small
models = [prepared(small()) for _ in range(2)]
while models:
    del models[0]
    gc.collect()
signal.signal(signal.SIGUSR1, lambda *_: print("handled", flush=True))
os.kill(os.getpid(), signal.SIGUSR1)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_nothing_is_reported_to_anyone() -> None:
    """OpenVINO neither connects to its makers nor forks this process to do so."""
    program = """
import sys, time
events = []
sys.addaudithook(lambda event, _: events.append(event))
from tests.pipeline.model.test_runtime_openvino import OpenVinoRuntime, SPEC, TracedSource, small
assert "openvino" not in sys.modules
runtime = OpenVinoRuntime(TracedSource(small(), SPEC), 1)
runtime.prepared(runtime.dtypes()[0])
time.sleep(1)
assert "openvino" in sys.modules
print(sorted({*events} & {"os.fork", "os.posix_spawn", "socket.getaddrinfo", "socket.connect"}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
