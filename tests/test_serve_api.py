"""Serve's API: who may ask, what is deployed, and what is refused."""

from pathlib import Path

import pytest

from deployments.machine import run_of
from deployments.serve_api import ServeApi, ServeApiError
from tests.service import Service


def _statuses(api: ServeApi) -> dict[str, str]:
    return {name: application["status"] for name, application in api.applications().items()}


def _of(service: Service, **environment: str) -> ServeApi:
    return ServeApi(run_of(service.replicas()[0]) or "", environment)


def test_a_run_that_has_ended_has_none() -> None:
    with pytest.raises(ServeApiError, match="the run has no dashboard"):
        ServeApi("1-0", {}).applications()


def test_what_is_not_accepted_is_told_and_changes_nothing(service: Service) -> None:
    with pytest.raises(ServeApiError, match=r"Ray's dashboard answers 4\d\d: [\s\S]*import_path"):
        service.api().deploy({"applications": [{"import_path": 1}]})
    assert _statuses(service.api()) == {"darkroom": "RUNNING"}


def test_rays_token_is_found_where_ray_looks_for_it(service: Service, tmp_path: Path) -> None:
    """In the environment first, then in the file that it names; without the right one nobody is told anything."""
    token = service.environment.get("RAY_AUTH_TOKEN") or (Path.home() / ".ray" / "auth_token").read_text()
    (tmp_path / "token").write_text(token)
    assert _statuses(_of(service, RAY_AUTH_TOKEN_PATH=str(tmp_path / "token"))) == {"darkroom": "RUNNING"}
    wrong, nowhere = {"RAY_AUTH_TOKEN": "wrong"}, {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "nowhere")}
    assert _statuses(_of(service, RAY_AUTH_TOKEN=token.strip(), **nowhere)) == {"darkroom": "RUNNING"}
    for environment in (wrong, nowhere):
        with pytest.raises(ServeApiError, match=r"Ray's dashboard answers 40[13]"):
            _of(service, **environment).applications()
