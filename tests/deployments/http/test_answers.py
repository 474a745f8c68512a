"""Tests of the answers of every head over HTTP: they have the form that the served OpenAPI document promises."""

import asyncio
import base64
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest
import torch
from torch import Tensor

from deployments.http.application import HttpApplication
from deployments.http.auth import Access
from deployments.service_config import ServiceConfig
from harness.photographs import jpeg, photograph
from pipeline import Classify, Detect, Embed, Geometry, Head, Multilabel, OneOf, Segment
from pipeline.errors import UndecodableImage
from pipeline.records import EncodedImage, Outcome, Prediction, Rejection, Transform
from tests.support.fake_engine import TIMINGS, FakeService

CAT = jpeg(photograph("cat"))
GEOMETRY = Geometry(64, 48, 6, Transform(32, 32, "bilinear", "fast", ("JPEG",)))
LOGITS = torch.tensor([[2.0, -1.0, 0.5]])
BOXES = {"boxes": torch.tensor([[1.0, 2.0, 9.0, 9.0]]), "scores": torch.tensor([0.8]), "labels": torch.tensor([1])}


class Brightness(Head):
    """A head of a user's own, which fails at run time on a bright image."""

    parameters = {"unit": OneOf("share", ("share", "levels"), "Unit of the brightness.")}  # noqa: RUF012
    schema = {"type": "object", "required": ["brightness"], "properties": {"brightness": {"type": "number"}}}  # noqa: RUF012

    def on_device(self, outputs: Tensor) -> dict[str, Tensor]:
        """Return the mean."""
        return {"mean": outputs.mean(1)}

    def results(self, rows: Mapping[str, Tensor], geometry: Sequence[Geometry]) -> list[Any]:  # noqa: ARG002
        """Return an object with the brightness of each image."""
        return [_Brightness(mean) for mean in rows["mean"].tolist()]


class _Brightness:
    def __init__(self, mean: float) -> None:
        self._mean = mean

    def as_json(self, unit: str) -> dict[str, float]:
        return {"brightness": {"share": self._mean, "levels": 255 * self._mean}[unit] / (self._mean < 1)}


HEADS: list[tuple[Head, Any, str, str]] = [
    (Classify("abc"), LOGITS, "top_k=2", "top_k=4"),
    (Multilabel("abc"), LOGITS, "threshold=0.7", "threshold=1.01"),
    (Embed(), LOGITS, "encoding=base64", "encoding=xml"),
    (Detect("ab"), [BOXES], "score_threshold=0.9", "score_threshold=high"),
    (Segment("abc"), torch.randn(1, 3, 32, 32), "", "top_k"),
    (Brightness(), LOGITS.sigmoid(), "unit=levels", "unit=lux"),
]
"""Heads with the output of a module for one image, a query, and one that is refused."""


def serving(head: Head, outputs: Any) -> FakeService:
    """Return a service that answers every image with the head's result, but each second of many with a rejection."""
    service = FakeService()
    service.engine.head = head
    (result,) = head.results(head.on_device(outputs), [GEOMETRY])
    torn = Rejection(UndecodableImage("torn"), TIMINGS)

    def answers(images: list[EncodedImage]) -> Future[list[Outcome]]:
        future = Future[list[Outcome]]()
        future.set_result([torn if number % 2 else Prediction(result, TIMINGS) for number in range(len(images))])
        return future

    service.engine.answers = answers
    return service


def exchange(service: FakeService, *requests: dict[str, Any]) -> list[httpx.Response]:
    """Return the OpenAPI document, and the answer to each request."""
    app = HttpApplication(service, ServiceConfig(), Access(None, None), dict, lambda _: {}, lambda: None).asgi()

    async def answered() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return [await client.get("/openapi.json"), *[await client.post("/predict", **each) for each in requests]]

    return asyncio.run(answered())


def one(query: str = "") -> dict[str, Any]:
    return {"content": CAT, "params": httpx.QueryParams(query)}


def many(count: int, **fields: str) -> dict[str, Any]:
    return {"files": [("image", ("cat.jpg", CAT))] * count, "data": fields}


@pytest.mark.parametrize(("head", "outputs", "query", "refused"), HEADS, ids=[type(each[0]).__name__ for each in HEADS])
def test_answers_have_the_form_that_openapi_promises(head: Head, outputs: Any, query: str, refused: str) -> None:
    """One image and many are answered in the form of the head, which the document describes with its parameters."""
    requests = one(), one(query), many(3), one(refused)
    document, usual, asked, list_of, bad = exchange(serving(head, outputs), *requests)
    described = document.json()

    def check(schema: str, answer: httpx.Response) -> None:
        assert answer.status_code == 200, answer.text
        components = described["components"]
        jsonschema.validate(answer.json(), {"$ref": f"#/components/schemas/{schema}", "components": components})

    check("One", usual)
    check("One", asked)
    check("Many", list_of)
    assert (asked.json() == usual.json()) is not bool(head.parameters)
    alone = {name: value for name, value in usual.json().items() if name != "model"}
    first, torn, third = list_of.json()["results"]
    assert first == third == alone
    assert torn["error"]["title"] == "Undecodable image"
    sent = [each["name"] for each in described["paths"]["/predict"]["post"]["parameters"] if each["in"] == "query"]
    assert sent == [*head.parameters]
    if head.parameters:
        (name, parameter), value = next(iter(head.parameters.items())), refused.partition("=")[2]
        assert (bad.status_code, bad.json()["detail"]) == (400, f"{name}={value} is not {parameter.allowed}")


def test_a_field_of_a_form_sets_a_parameter() -> None:
    """A text field sets a parameter; a bad value is refused, and so is one that the URL has as well."""
    service = serving(Embed(), LOGITS)
    twice = many(1, encoding="json") | {"params": {"encoding": "base64"}}
    _, asked, bad, both = exchange(service, many(1, encoding="base64", title="a cat"), many(1, encoding=""), twice)
    vector = np.frombuffer(base64.b64decode(asked.json()["results"][0]["embedding"]), "<f4")
    assert vector == pytest.approx((LOGITS / LOGITS.norm())[0].numpy())
    assert (bad.status_code, bad.json()["detail"]) == (400, "encoding= is not json or base64")
    assert (both.status_code, both.json()["detail"]) == (400, "encoding=base64 and json is not json or base64")


def test_a_parameter_in_json_is_told_its_place() -> None:
    _, refused = exchange(serving(Embed(), LOGITS), {"json": {"encoding": "base64", "images": []}})
    assert "encoding stands in the URL: /predict?encoding=" in refused.json()["detail"]


def test_a_result_that_fails_costs_its_neighbours_nothing() -> None:
    """If the JSON of a result cannot be made, that image is an error of the server, and others are answered."""
    service = serving(Brightness(), torch.ones(1, 3))
    _, alone, list_of = exchange(service, one(), many(2))
    assert (alone.status_code, alone.json()["type"]) == (500, "urn:darkroom:head-failed")
    failed, torn = (each["error"] for each in list_of.json()["results"])
    assert (failed["status"], failed["type"], torn["status"]) == (500, "urn:darkroom:head-failed", 422)
    assert "ZeroDivisionError" not in alone.text + list_of.text


def test_other_requests_go_on_while_vectors_are_encoded() -> None:
    """The event loop is free between the vectors of many images: another task runs meanwhile."""
    service = serving(Embed(), torch.randn(1, 1280))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def both() -> int:
        from deployments.http.responses import answer

        (outcome,) = await asyncio.wrap_future(service.engine.answers([EncodedImage(CAT)]))
        counting = asyncio.create_task(count())
        await answer("a-model", [outcome] * 256, many=True, parameters={"encoding": "json"})
        counting.cancel()
        return turns

    assert asyncio.run(both()) == 7
