"""Tests of several applications in one service: serve_config.multi.yaml, with keys for one and a broken third one."""

import copy
from collections.abc import Iterator

import httpx
import pytest
import torch

from examples import pets
from harness.photographs import jpeg, photograph
from tests.support.answers import CAT_LABELS, best
from tests.support.image_files import png
from tests.support.keys import KEY, bearer
from tests.support.running_service import Service
from tests.support.typed import typed
from tests.support.waiting import until

CAT = jpeg(photograph("cat"))


@pytest.fixture(scope="module")
def client(several: Service) -> Iterator[httpx.Client]:
    """Return a client of the service below /models, with the key."""
    with httpx.Client(base_url=f"{several.origin}/models", timeout=60, trust_env=False, headers=bearer(KEY)) as own:
        yield own


def test_an_application_that_fails_does_not_take_the_others_along(several: Service, client: httpx.Client) -> None:
    """The console names a failed application with its reason; the others are served, and its path is unknown."""
    printed = several.output.read_text()
    assert "darkroom: application broken has failed, and the others are served without it:" in printed
    assert "the weights are made of cheese" in printed
    assert "  serves  /models/fast  mobilenet_v2 with weights from MobileNet_V2_Weights.IMAGENET1K_V1 on " in printed
    assert "          /models/exact  see GET /info, which needs a key\n" in printed
    assert "  failed  broken, for the reason above\n" in printed
    assert client.post("/broken/predict", content=CAT).status_code in (404, 503)


def test_each_application_answers_below_its_path_with_its_limits(client: httpx.Client) -> None:
    answers = [client.post(f"/{name}/predict", content=CAT).raise_for_status().json() for name in ("fast", "exact")]
    assert {best(answer) for answer in answers} <= CAT_LABELS
    assert [len(answer["predictions"]) for answer in answers] == [5, 1000]
    assert client.post("/fast/predict?top_k=11", content=CAT).status_code == 400
    for name in ("fast", "exact"):
        assert client.get(f"/{name}/openapi.json").json()["servers"] == [{"url": f"/models/{name}"}]
        assert client.get(f"/{name}/healthz").json() == {"status": "ok"}


def test_keys_are_those_of_one_application(client: httpx.Client) -> None:
    """A key file closes the application that names it, and no other. A balancer needs no key."""
    wrong = {"Authorization": "Bearer another-key-of-this-test"}
    answers = [client.post(f"/{name}/predict", content=CAT, headers=wrong) for name in ("fast", "exact")]
    assert [answer.status_code for answer in answers] == [200, 401]
    assert client.get("/exact/healthz", headers=wrong).status_code == 200


def test_top_watches_one_application_and_names_the_others(client: httpx.Client) -> None:
    origin = str(client.base_url).removesuffix("/models/")
    shown = typed("top", f"{origin}/models/exact", "--once", "--key", KEY)
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert f"{origin}/models/exact  1 replica" in shown.stdout
    missed = typed("top", origin, "--once")
    assert missed.exit_code == 1
    assert (
        f"there are applications at {origin}/models/broken, {origin}/models/exact, {origin}/models/fast, "
        f"{origin}/models/pets" in missed.stderr
    )


def test_a_function_of_the_users_own_is_served(client: httpx.Client) -> None:
    """The example's answer over HTTP is that of its network behind its transform, called as in a notebook."""
    network, transform, labels = pets.build(seed=7)
    with torch.inference_mode():
        expected = network.eval()(transform(photograph("cat"))[None]).softmax(1)[0]
    answer = client.post("/pets/predict", content=png(photograph("cat"))).raise_for_status().json()
    found = {entry["label"]: entry["score"] for entry in answer["predictions"]}
    assert found == pytest.approx(dict(zip(labels, expected.tolist(), strict=True)), abs=1e-4)
    told = client.get("/pets/info").json()
    assert told["transform"]["name"] == "make_transform.<locals>.transform"
    assert told["labels"] == [*labels]
    assert client.post("/pets/predict", content=png(photograph("cat"))[:-999]).status_code == 422


def test_one_application_changes_while_the_other_goes_on(several: Service, client: httpx.Client) -> None:
    """Settings of one application change live, and no replica of any application is replaced."""
    before = {process.pid for process in several.replicas()}
    config = copy.deepcopy(several.config)
    config["applications"][2]["deployments"][0]["user_config"]["top_k"] = 3
    several.deploy(config)
    until(lambda: len(client.post("/exact/predict", content=CAT).json()["predictions"]) == 3)
    assert client.get("/fast/info").json()["user_config"]["top_k"] == 5
    assert {process.pid for process in several.replicas()} == before
