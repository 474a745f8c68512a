"""Tests of Serve's API: its access token, the deployed applications, and refusals."""

import os
from pathlib import Path

import httpx
import pytest
import torch

from deployments.local.machine import run_of
from deployments.local.serve_api import ServeApi, ServeApiError
from deployments.node import Node
from tests.support.running_service import Service


def _statuses(api: ServeApi) -> dict[str, str]:
    return {name: application["status"] for name, application in api.applications().items()}


def _of(service: Service, **environment: str) -> ServeApi:
    return ServeApi(run_of(service.replicas()[0]) or "", environment)


def test_a_run_that_has_ended_has_none() -> None:
    with pytest.raises(ServeApiError, match="the run has no dashboard"):
        ServeApi("1-0", {}).applications()


def test_the_node_of_a_run_has_what_ray_has_found(service: Service) -> None:
    ((address, node),) = service.api().nodes()
    assert address == "127.0.0.1"
    assert node == Node(cpus=len(os.sched_getaffinity(0)), gpus=torch.cuda.device_count())


@pytest.mark.parametrize(
    ("listed", "nodes"),
    [
        ([("ALIVE", {"CPU": 8.0}), ("ALIVE", {"CPU": 16.0, "GPU": 2.0})], [Node(8.0), Node(16.0, 2.0)]),
        ([("DEAD", {"GPU": 4.0}), ("ALIVE", {"GPU": 1.0})], [Node(0.0, 1.0)]),
        ([("DEAD", {"GPU": 4.0})], None),
        ([], None),
    ],
    ids=str,
)
def test_only_living_nodes_are_nodes(
    listed: list[tuple[str, dict[str, float]]], nodes: list[Node] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only living nodes count. Without one the resources are unknown, not none."""
    entries = [{"node_ip": "10.0.0.1", "state": state, "resources_total": has} for state, has in listed]
    answer = httpx.Response(200, json={"data": {"result": {"result": entries}}})
    api = ServeApi("1-0", {})
    monkeypatch.setattr(api, "_ask", lambda *_: answer)
    if nodes is None:
        with pytest.raises(ServeApiError, match="no node yet"):
            api.nodes()
    else:
        assert [node for _, node in api.nodes()] == nodes


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
