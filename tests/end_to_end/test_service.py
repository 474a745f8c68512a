"""Tests of the whole path over HTTP, in the shipped configuration as `make serve` starts it."""

import base64
import gzip
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema
import pytest

from deployments.live_config import LiveConfig
from deployments.monitoring.timeline import STAGES
from harness.local_service import Document
from harness.photographs import jpeg, photograph
from pipeline.model.reference import MIN_TIME_SAVED_SHARE
from tests.support.answers import CAT_LABELS, best
from tests.support.image_files import ODD_BUT_GOOD, png, webp
from tests.support.running_service import Service, live_config

CAT, ESPRESSO = jpeg(photograph("cat")), jpeg(photograph("espresso"))


def _json(*images: bytes) -> Document:
    return {"images": [base64.b64encode(image).decode() for image in images]}


# ---- right answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encode", [jpeg, png, webp])
@pytest.mark.parametrize(("name", "labels"), [("cat", CAT_LABELS), ("espresso", {"espresso"})])
def test_a_photograph_gets_its_label(service: Service, name: str, labels: set[str], encode: Any) -> None:
    """A photograph gets its label in every format, sent as a raw body, as a part or as base64."""
    image = encode(photograph(name))
    raw = service.post(image, f"image/{encode.__name__}").raise_for_status().json()
    parts = service.post_files(image).raise_for_status().json()
    encoded = service.client.post("/predict", json=_json(image)).raise_for_status().json()

    assert best(raw) in labels
    assert raw["model"] == "mobilenet_v2"
    assert parts["results"] == encoded["results"] == [{"predictions": raw["predictions"]}]
    scores = [entry["score"] for entry in raw["predictions"]]
    assert scores == sorted(scores, reverse=True)
    assert 0 < sum(scores) <= 1.001


def test_a_compressed_image_may_be_put(service: Service) -> None:
    headers = {"Content-Type": "image/jpeg", "Content-Encoding": "gzip"}
    response = service.client.put("/predict", content=gzip.compress(CAT), headers=headers)
    assert best(response.raise_for_status().json()) in CAT_LABELS


def test_bytes_without_a_content_type_are_taken_for_an_image(service: Service) -> None:
    """A body without a content type, as `curl -T` sends it, is taken for an image."""
    response = service.client.post("/predict", content=CAT)
    assert "content-type" not in response.request.headers
    assert best(response.raise_for_status().json()) in CAT_LABELS


def test_a_data_url_and_line_breaks_are_base64_too(service: Service) -> None:
    """Base64 may be a data URL, as of a browser's canvas, or have line breaks, as the `base64` command writes."""
    images = ["data:image/jpeg;base64," + base64.b64encode(CAT).decode(), base64.encodebytes(ESPRESSO).decode()]
    results = service.client.post("/predict", json={"images": images}).raise_for_status().json()["results"]
    assert best(results[0]) in CAT_LABELS
    assert best(results[1]) == "espresso"


def test_a_hundred_images_come_back_complete_and_in_order(service: Service) -> None:
    """A hundred images come back complete and in order, whatever chunks and batches they travel in."""
    kinds = random.Random(5).choices([0, 1], k=100)
    results = service.post_files(*[(CAT, ESPRESSO)[kind] for kind in kinds]).raise_for_status().json()["results"]
    assert [int(best(result) == "espresso") for result in results] == kinds


def test_an_answer_does_not_depend_on_its_company(service: Service) -> None:
    """An answer does not depend on other requests: each of 64 clients at once gets the answer that it gets alone."""
    angles = range(64)
    pictures = [jpeg(photograph(("cat", "espresso", "astronaut", "rocket")[n % 4]).rotate(n)) for n in angles]
    alone = [service.post(picture, params={"top_k": 1}).raise_for_status().json() for picture in pictures]
    with live_config(service, max_queue_wait_s=60.0), ThreadPoolExecutor(64) as clients:
        together = list(clients.map(lambda picture: service.post(picture, params={"top_k": 1}).json(), pictures))
    for single, crowded in zip(alone, together, strict=True):
        assert best(crowded) == best(single)
        assert crowded["predictions"][0]["score"] == pytest.approx(single["predictions"][0]["score"], abs=1e-3)


@pytest.mark.parametrize("name", sorted(ODD_BUT_GOOD))
def test_an_odd_file_gets_an_answer(service: Service, name: str) -> None:
    """Odd orientations, colour spaces, depths, alpha and animation get an answer."""
    assert service.post(ODD_BUT_GOOD[name], "application/octet-stream").raise_for_status().json()["predictions"]


@pytest.mark.parametrize("top_k", [1, 3, 10])
def test_top_k_is_how_many_classes_are_named(service: Service, top_k: int) -> None:
    assert len(service.post(CAT, params={"top_k": top_k}).json()["predictions"]) == top_k


def test_server_timing_has_every_stage(service: Service) -> None:
    """Server-Timing has every stage; together they make up the total, and none but the copy is zero."""
    stages = service.post(CAT).headers["server-timing"].split(", ")
    milliseconds = {name: float(duration) for name, _, duration in (stage.partition(";dur=") for stage in stages)}
    assert list(milliseconds) == [*STAGES, "total"]
    assert sum(milliseconds[stage] for stage in STAGES) == pytest.approx(milliseconds["total"], abs=0.1)
    assert min(milliseconds[stage] for stage in STAGES if stage != "copy") > 0


# ---- what else it answers -------------------------------------------------------------------------------------------


def test_info_says_what_is_served(service: Service) -> None:
    info = service.info()
    assert len(info["labels"]) == 1000
    assert [*info][-1] == "labels"  # a thousand lines, below what people look for
    assert info["device"] in ("cpu", "cuda")
    assert info["dtype"] == "float32"
    compared = {trial["runtime"]: trial["image_s"] for trial in info["runtimes_compared"] if not trial["refused"]}
    assert compared[info["runtime"]] <= min(compared.values()) / (1 - MIN_TIME_SAVED_SHARE)
    assert info["computed_as"] == {"torch": "a TorchScript graph", "openvino": "OpenVINO"}[info["runtime"]]
    written = service.config["applications"][0]["deployments"][0]["user_config"]
    assert info["user_config"] == LiveConfig.model_validate(written).model_dump()
    assert info["refused_user_config"] is None
    assert info["transform"]["crop_px"] == 224
    assert info["weights_from"] == info["transform_from"] == "MobileNet_V2_Weights.IMAGENET1K_V1"


def test_answers_have_the_form_that_openapi_promises(service: Service) -> None:
    """Each kind of answer matches its schema in the served OpenAPI document."""
    document = service.client.get("/openapi.json").raise_for_status().json()

    def check(schema: str, instance: Document) -> None:
        jsonschema.validate(instance, {"$ref": f"#/components/schemas/{schema}", "components": document["components"]})

    check("One", service.post(CAT).json())
    check("Many", service.post_files(CAT, b"hello").json())
    check("Refusal", service.post(b"hello").json())
    check("Refusal", service.client.get("/nowhere").json())
    check("Info", service.info())
    check("Stats", service.client.get("/stats").raise_for_status().json())
    assert set(document["paths"]) == {"/predict", "/info", "/stats", "/healthz", "/openapi.json"}
