"""Tests of Serve's API: its access token, the deployed applications, and refusals."""

from pathlib import Path

import httpx
import pytest
import torch

from deployments.local.machine import run_of
from deployments.local.serve_api import ServeApi, ServeApiError
from tests.support.running_service import Service


def _statuses(api: ServeApi) -> dict[str, str]:
    return {name: application["status"] for name, application in api.applications().items()}


def _of(service: Service, **environment: str) -> ServeApi:
    return ServeApi(run_of(service.replicas()[0]) or "", environment)


def test_a_run_that_has_ended_has_none() -> None:
    with pytest.raises(ServeApiError, match="the run has no dashboard"):
        ServeApi("1-0", {}).applications()


def test_the_gpus_of_a_run_are_those_that_ray_has_found(service: Service) -> None:
    assert service.api().gpus() == torch.cuda.device_count()


@pytest.mark.parametrize(
    ("nodes", "gpus"),
    [
        ([("ALIVE", {"CPU": 8.0}), ("ALIVE", {"CPU": 16.0, "GPU": 2.0}), ("ALIVE", {"GPU": 1.0})], 3.0),
        ([("DEAD", {"GPU": 4.0}), ("ALIVE", {"CPU": 8.0})], 0.0),
        ([("DEAD", {"GPU": 4.0})], None),
        ([], None),
    ],
    ids=str,
)
def test_gpus_are_those_of_living_nodes(
    nodes: list[tuple[str, dict[str, float]]], gpus: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only GPUs of living nodes count. Without a node the number is unknown, not zero."""
    listed = [{"state": state, "resources_total": resources} for state, resources in nodes]
    answer = httpx.Response(200, json={"data": {"result": {"result": listed}}})
    api = ServeApi("1-0", {})
    monkeypatch.setattr(api, "_ask", lambda *_: answer)
    if gpus is None:
        with pytest.raises(ServeApiError, match="no node yet"):
            api.gpus()
    else:
        assert api.gpus() == gpus


def test_what_is_not_accepted_is_told_and_changes_nothing(service: Service) -> None:
    with pytest.raises(ServeApiError, match=r"Ray's dashboard answers 4\d\d: [\s\S]*import_path"):
        service.api().deploy({"applications": [{"import_path": 1}]})
    assert _statuses(service.api()) == {"darkroom": "RUNNING"}


def test_rays_token_is_found_where_ray_looks_for_it(service: Service, tmp_path: Path) -> None:
    """Ray's token is read from the environment first, then from the file that it names.

    Without it no request is answered.
    """
    token = service.environment.get("RAY_AUTH_TOKEN") or (Path.home() / ".ray" / "auth_token").read_text()
    (tmp_path / "token").write_text(token)
    assert _statuses(_of(service, RAY_AUTH_TOKEN_PATH=str(tmp_path / "token"))) == {"darkroom": "RUNNING"}
    wrong, nowhere = {"RAY_AUTH_TOKEN": "wrong"}, {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "nowhere")}
    assert _statuses(_of(service, RAY_AUTH_TOKEN=token.strip(), **nowhere)) == {"darkroom": "RUNNING"}
    for environment in (wrong, nowhere):
        with pytest.raises(ServeApiError, match=r"Ray's dashboard answers 40[13]"):
            _of(service, **environment).applications()
