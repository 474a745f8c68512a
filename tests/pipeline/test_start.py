"""Tests of an engine's start and end: complete or not at all, and nothing is left behind."""

import gc
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import nn
from torchvision import models

from harness.photographs import jpeg, photograph
from pipeline.config import PipelineConfig
from pipeline.engine import Engine
from pipeline.errors import DeviceFailure, EngineClosed, InvalidModel, WorkerFailure
from pipeline.model.device import Device
from pipeline.model.device_kind import open_device
from pipeline.model.device_module import DeviceModule
from pipeline.model.precision import scenes
from pipeline.model.reference import COMPARED_IMAGES
from pipeline.model.runtimes import COMPARED_BY_AUTO
from pipeline.records import EncodedImage, Prediction
from pipeline.usable_cores import usable_cores
from tests.conftest import PIPELINE, SMALL, SMALL_LIMITS
from tests.pipeline.decode.test_slots import memfds
from tests.support.answers import kinds
from tests.support.image_files import png, slow_png, webp
from tests.support.waiting import until

CAT = jpeg(photograph("cat"))


def test_what_is_not_started_answers_nothing(small: Engine) -> None:
    """An engine that is not started refuses requests, except by `infer`, which starts it."""
    with pytest.raises(EngineClosed, match="not running"):
        small.submit([[EncodedImage(CAT)]])
    with pytest.raises(EngineClosed, match="not running"):
        small.check()
    assert kinds(small.infer([CAT])) == [Prediction]
    small.check()
    small.start()
    assert len(small.worker_pids) == 1


def test_close_may_be_called_twice_and_ends_everything(small: Engine) -> None:
    """`close` may be called twice. Workers and shared memory are gone, and later calls are refused."""
    maps = memfds()
    small.start()
    pids = small.worker_pids
    small.close()
    small.close()
    until(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    for ask in (small.start, small.check, lambda: small.infer([CAT]), lambda: small.submit([])):
        with pytest.raises(EngineClosed):
            ask()
    del small._compute, small._decode, small._self_test, small._unlock_pages
    until(lambda: gc.collect() >= 0 and memfds().keys() <= maps.keys())


def test_close_leaves_no_request_without_an_end(small: Engine) -> None:
    """`close` answers or fails every request, whatever stage its images are at."""
    small.start()
    futures = small.submit([[EncodedImage(slow_png())], *([EncodedImage(CAT)] * 3 for _ in range(20))])
    small.close()
    assert all(future.done() for future in futures)
    assert any(isinstance(future.exception(), EngineClosed) for future in futures)


def test_an_engine_closed_before_its_start_stays_closed(small: Engine) -> None:
    small.close()
    with pytest.raises(EngineClosed, match="was closed; make another"):
        small.start()


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"model": "mobilenet_v2", "weights": "V0"}, InvalidModel),
        ({"device": "cuda"}, DeviceFailure),
        ({"device": "cuda", "dtype": "auto"}, DeviceFailure),
    ],
    ids=str,
)
def test_a_start_that_fails_leaves_nothing_running(settings: dict[str, str], error: type[Exception]) -> None:
    if torch.cuda.is_available() and error is DeviceFailure:
        pytest.skip("there is a CUDA device: asking for it is no fault")
    processes, maps = psutil.Process().children(recursive=True), memfds()
    engine = Engine(SMALL.model_copy(update=settings), SMALL_LIMITS)
    with pytest.raises(error):
        engine.start()
    with pytest.raises(EngineClosed):
        engine.check()
    engine.close()
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= {child.pid for child in processes}
    until(lambda: gc.collect() >= 0 and memfds().keys() <= maps.keys())


def test_a_warm_up_without_an_answer_fails_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start fails if the warm-up image gets no prediction; here the workers cannot read it."""
    monkeypatch.setattr("pipeline.engine.blank", lambda *_: b"not an image")
    engine = Engine(SMALL, SMALL_LIMITS)
    with pytest.raises(WorkerFailure, match=r"warm-up image came back without a prediction: unsupported image format"):
        engine.start()
    until(lambda: not engine.worker_pids)
    engine.close()


def test_a_model_that_fails_its_warm_up_fails_the_start() -> None:
    """A model that fails in its warm-up fails the start, as one that needs too much memory."""

    def opened(device_kind: str, module: DeviceModule, **sizes: Any) -> Device:
        module.module = nn.Conv2d(4, 1, 1)  # images have three channels
        return open_device(device_kind, module, **sizes)

    engine = Engine(SMALL, SMALL_LIMITS, opener=opened)
    with pytest.raises(DeviceFailure, match=r"^the warm-up of the model failed: RuntimeError: Given groups=1, "):
        engine.start()
    assert engine.worker_pids == []
    with pytest.raises(EngineClosed):
        engine.check()


def test_weights_that_give_no_numbers_fail_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Weights that give NaN fail the start with the name of the bad tensor, and nothing is left running.

    Because they are the user's own, the log has warned that their preprocessing is unknown.
    """
    state = models.squeezenet1_1().state_dict()
    state["features.3.squeeze.bias"][5] = torch.nan
    torch.save(state, tmp_path / "diverged.pth")
    settings = {"model": "squeezenet1_1", "weights": str(tmp_path / "diverged.pth"), "crop_px": 32, "resize_px": 32}
    engine = Engine(SMALL.model_copy(update=settings), SMALL_LIMITS)
    caplog.set_level(logging.INFO, "pipeline.assembly")
    with pytest.raises(
        InvalidModel, match=r"diverged\.pth .* \(NaN\): the tensor features\.3\.squeeze\.bias holds NaN"
    ):
        engine.start()
    assert engine.worker_pids == []
    with pytest.raises(EngineClosed):
        engine.check()
    assert [(record.levelname, record.getMessage().partition(":")[0]) for record in caplog.records[:2]] == [
        ("INFO", "weights"),
        ("WARNING", "transform"),
    ]
    assert "resize_px, crop_px from the configuration, all else from SqueezeNet1_1_Weights.IMAGENET1K_V1" in caplog.text
    assert "(own weights do not say theirs; resize_px, crop_px, interpolation, mean, std override it)" in caplog.text


def test_sizes_that_are_left_open_follow_the_cores() -> None:
    """Open sizes follow from the cores: on the CPU nearly all compute, on CUDA all decode. Set sizes are kept."""
    cores = usable_cores()
    cpu, cuda = Engine(PipelineConfig(device="cpu")), Engine(PipelineConfig(device="cuda"))
    assert (cpu.decode_workers, cpu.concurrent_batches) == (max(1, cores // 8), cores)
    assert (cuda.decode_workers, cuda.concurrent_batches) == (cores, 1)
    assert (Engine(PIPELINE).decode_workers, Engine(PIPELINE).concurrent_batches) == (2, 2)


def test_the_steps_of_a_start_are_timed(engine: Engine) -> None:
    assert list(engine.start_s) == ["model", "workers", "device", "warm_up"]
    assert min(engine.start_s.values()) > 0


def test_the_device_is_found_where_it_is_left_open() -> None:
    assert Engine(PipelineConfig()).device_kind == ("cuda" if torch.cuda.is_available() else "cpu")


def test_runtime_and_dtype_are_found_where_they_are_left_open() -> None:
    """Runtime and number format that are left open are compared with the model on images like photographs."""
    got = []

    def opened(device_kind: str, module: DeviceModule, **options: Any) -> Device:
        choice = options.pop("choice")
        got.append((module.dtype, choice.runtime, choice.dtype, choice.samples.equal(scenes(COMPARED_IMAGES, 224))))
        return open_device(device_kind, module, choice=replace(choice, dtype="float32"), **options)

    config = SMALL.model_copy(update={"dtype": "auto", "runtime": "auto"})
    with Engine(config, SMALL_LIMITS, opener=opened) as engine:
        names = {trial.runtime for trial in engine.computed_as.trials}
        assert engine.computed_as.runtime in names
    assert names == set(COMPARED_BY_AUTO)
    assert got == [(torch.float32, "auto", "auto", True)]


@pytest.mark.parametrize("formats", [("WEBP", "PNG"), ("PNG", "WEBP")], ids=str)
def test_any_format_may_be_the_first(formats: tuple[str, ...]) -> None:
    """Any format may be the first of `formats`, in which the warm-up image is made."""
    with Engine(SMALL.model_copy(update={"formats": formats}), SMALL_LIMITS) as engine:
        for file in (webp(photograph("cat")), png(photograph("cat"))):
            assert kinds(engine.infer([file])) == [Prediction]
