"""Tests of networks in files: torch.export, TorchScript and ONNX give the scores of the module they were made from."""

import asyncio
import logging
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from torch import nn

from deployments.http.application import HttpApplication
from deployments.http.auth import Access
from deployments.service import InferenceService
from deployments.service_config import ServiceConfig
from harness.photographs import NAMES, photograph
from pipeline import Engine, PipelineConfig
from pipeline.errors import InvalidModel
from pipeline.input_spec import InputSpec
from pipeline.model.cuda import CudaDevice
from pipeline.model.device import collect
from pipeline.model.device_module import DeviceModule
from pipeline.model.saved_module import SavedModule
from pipeline.model.served import Preprocess
from pipeline.model.source import load_model
from pipeline.records import EncodedImage, Outcome
from tests.support.device_kinds import device_of
from tests.support.fake_engine import FakeRecorder
from tests.support.image_files import png
from tests.support.network_files import (
    CLASSES,
    FILES,
    IMAGES,
    MEAN,
    NETWORK,
    SIDE,
    STD,
    Network,
    exported,
    onnx_file,
    settings_of,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("networks")


@pytest.fixture(scope="module", params=FILES)
def file(request: pytest.FixtureRequest, folder: Path) -> Path:
    return FILES[request.param](folder / request.param)


def test_a_file_gives_the_scores_of_its_module(file: Path) -> None:
    """Batches of any number get the scores of the module that the file was made from."""
    served = load_model(PipelineConfig(**settings_of(file)))
    module = served.module.eval()
    assert isinstance(module, SavedModule)
    pixels = torch.randint(256, (5, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(2)).float()
    normalised = (pixels / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    given = pixels if module.of_bytes else normalised
    with torch.inference_mode():
        expected = NETWORK(normalised)
        for count in range(1, 6):
            got = module(given[:count].to(memory_format=torch.channels_last))
            torch.testing.assert_close(got, expected[:count], atol=1e-4, rtol=1e-4)
    assert [*served.head.labels] == [f"class {index}" for index in range(CLASSES)]


WAYS = {
    "any.pt2": "a TorchScript graph",
    "two.pt2": "an exported program, 1 to 2 images at a time",
    "fixed.pt": "an exported program, exactly 4 images at a time",
    "script.pth": "a TorchScript graph",
    "any.onnx": "ONNX Runtime",
    "fixed.onnx": "ONNX Runtime, 2 images at a time",
    "bytes.onnx": "ONNX Runtime",
}


@pytest.fixture(scope="module")
def photographs() -> list[bytes]:
    return [png(photograph(name).resize((SIDE, SIDE))) for name in NAMES]


class OneEngine(InferenceService):
    """The service as a replica has it, without Ray."""

    def __init__(self, engine: Engine) -> None:
        async def submit(images: list[EncodedImage]) -> Future[list[Outcome]]:
            return engine.submit([images])[0]

        super().__init__(engine, submit, FakeRecorder())


def answered(engine: Engine, photographs: list[bytes]) -> list[Any]:
    """Return the results of one request over HTTP."""
    app = HttpApplication(OneEngine(engine), ServiceConfig(), Access(None, None), dict, lambda _: {}, lambda: None)

    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(app.asgi())
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            files = [("image", (f"{number}.png", data)) for number, data in enumerate(photographs)]
            return await client.post("/predict?top_k=5", files=files)

    return list(asyncio.run(post()).raise_for_status().json()["results"])


@pytest.mark.parametrize("name", ["any.pt2", "fixed.pt", "script.pth", "fixed.onnx", "bytes.onnx"])
def test_a_file_is_served(name: str, folder: Path, photographs: list[bytes]) -> None:
    """Each kind of file is served over HTTP, with the scores of the module, in batches of any size."""
    path = folder / name
    if not path.exists():
        FILES[name](path)
    with Engine(PipelineConfig(**settings_of(path))) as engine:
        results = answered(engine, photographs)
        assert engine.computed_as.way == WAYS[name]
        assert engine.weights_from == str(path)
    scores = torch.zeros(len(NAMES), CLASSES)
    for row, result in zip(scores, results, strict=True):
        for each in result["predictions"]:
            row[each["index"]] = each["score"]
    pixels = np.stack([np.asarray(photograph(each).resize((SIDE, SIDE))) for each in NAMES])
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    normalised = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.inference_mode():
        torch.testing.assert_close(scores, NETWORK(normalised.contiguous()).softmax(1), atol=1e-4, rtol=0)


@pytest.mark.cuda
def test_a_network_with_a_fixed_batch_is_neither_traced_nor_recorded_on_cuda(folder: Path) -> None:
    path = folder / "fixed.pt"
    if not path.exists():
        FILES[path.name](path)
    served = load_model(PipelineConfig(**settings_of(path)))
    pixels = torch.randint(256, (3, SIDE, SIDE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    alone = DeviceModule.of(served)
    with torch.inference_mode():
        expected = dict(zip(("scores", "classes"), alone(pixels), strict=True))
    with device_of("cuda"):
        device = CudaDevice(alone, (2, 8), InputSpec.of_pixels(SIDE))
        device.warm_up()
        rows = collect(device.launch([pixels])).rows
    assert device.computed_as.way == WAYS[path.name]
    torch.testing.assert_close(rows["scores"], expected["scores"], atol=1e-4, rtol=0)


def test_a_saved_network_keeps_its_number_format(tmp_path: Path) -> None:
    path = exported(tmp_path / "half.pt2", torch.export.Dim.DYNAMIC, dtype=torch.bfloat16)
    with Engine(PipelineConfig(**{**settings_of(path), "dtype": "auto"})) as engine:
        assert engine.dtype == "bfloat16"
    with pytest.raises(
        InvalidModel, match=r"^dtype: float16 cannot be chosen .* was saved, here bfloat16; leave dtype"
    ):
        load_model(PipelineConfig(**settings_of(path), dtype="float16"))


def test_several_outputs_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        served = load_model(PipelineConfig(**settings_of(onnx_file(tmp_path / "two.onnx", outputs=2))))
    assert "two.onnx has the outputs logits, features; logits is used" in caplog.text
    assert served.module(IMAGES).shape == (3, CLASSES)


def test_a_softmax_in_a_file_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    network = nn.Sequential(Network(), nn.Softmax(1)).eval()
    torch.export.save(torch.export.export(network, (torch.zeros(2, 3, SIDE, SIDE),)), tmp_path / "soft.pt2")
    with caplog.at_level(logging.WARNING):
        load_model(PipelineConfig(**settings_of(tmp_path / "soft.pt2")))
    assert "soft.pt2 gives numbers from 0 up that sum to 1 for each image, as behind a softmax" in caplog.text


def test_sizes_and_numbers_that_a_file_does_not_say_are_assumed(file: Path) -> None:
    """The size comes from the file, if it says one; all else is assumed, with a warning."""
    size: dict[str, Any] = {"crop_px": SIDE} if file.name == "script.pth" else {}
    served = load_model(PipelineConfig(device="cpu", model=str(file), **size))
    assert isinstance(served.transform, Preprocess)
    assert (served.transform.resize_px, served.transform.crop_px) == (36, 32)
    assert served.transform_is_assumed
    assert "ImageNet's usual values (own weights do not say theirs" in served.transform_from
