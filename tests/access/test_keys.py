"""Tests of a service that is guarded by API keys."""

import json
from collections.abc import Sequence
from pathlib import Path

import httpx
import psutil
import pytest

from deployments.http.auth import KEYS_VARIABLE
from harness.local_service import Document, shipped_config
from harness.photographs import jpeg, photograph
from tests.support.keys import KEY, NEXT, OTHER, bearer
from tests.support.running_service import Service, opened, running
from tests.support.waiting import until

CAT = jpeg(photograph("cat"))


def _is_refused(response: httpx.Response, kind: str, challenge: str) -> None:
    problem: Document = response.json()
    assert (response.status_code, problem["status"], problem["type"]) == (401, 401, f"urn:darkroom:{kind}")
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["www-authenticate"] == challenge
    assert problem["request_id"] == response.headers["x-request-id"]


def test_a_key_opens_what_is_guarded(guarded: Service) -> None:
    """Each of the two keys gives access to the predictions and to the settings."""
    for key in (KEY, OTHER):
        assert guarded.post(CAT, headers=bearer(key)).status_code == 200
        assert guarded.client.get("/info", headers=bearer(key)).status_code == 200


def test_without_a_key_nothing_guarded_answers(guarded: Service) -> None:
    """A request without a key gets 401 with the scheme; one with a wrong key gets 401 with invalid_token (RFC 6750)."""
    for headers, kind, challenge in (
        ({}, "missing-key", 'Bearer realm="darkroom"'),
        (bearer(NEXT), "wrong-key", 'Bearer realm="darkroom", error="invalid_token"'),
    ):
        _is_refused(guarded.post(CAT, headers=headers), kind, challenge)
        _is_refused(guarded.post_files(CAT, headers=headers), kind, challenge)
        _is_refused(guarded.client.get("/info", headers=headers), kind, challenge)


@pytest.mark.parametrize("path", ["/healthz", "/openapi.json"])
def test_what_says_nothing_of_the_service_needs_no_key(guarded: Service, path: str) -> None:
    """The API description, and the path that load balancers ask for, need no key."""
    assert guarded.client.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/-/healthz", "/-/routes"])
def test_serves_own_paths_need_no_key(guarded: Service, path: str) -> None:
    assert guarded.client.get(f"{guarded.origin}{path}").status_code == 200


def test_a_request_without_a_key_is_refused_before_its_body_is_read(guarded: Service) -> None:
    """A request without a key is refused while its client has sent only the headers."""
    with opened(guarded, content_length=1_000_000) as connection:
        response = connection.getresponse()
        assert response.status == 401
        assert b"urn:darkroom:missing-key" in response.read()


def test_keys_change_without_a_restart(guarded: Service) -> None:
    """After the key file changes, the new key is accepted and the old one refused, by the same replica process."""
    replicas = [process.pid for process in guarded.replicas()]
    file = Path(guarded.application["args"]["api_keys_file"])
    before = file.read_text()
    file.write_text(f"{NEXT}\n")
    assert [guarded.post(CAT, headers=bearer(key)).status_code for key in (KEY, NEXT)] == [401, 200]
    file.write_text("")
    assert [guarded.post(CAT, headers=bearer(key)).status_code for key in (KEY, NEXT)] == [401, 401]
    until(lambda: "every key is refused until this is fixed" in guarded.output.read_text())
    file.write_text(before)
    assert [guarded.post(CAT, headers=bearer(key)).status_code for key in (KEY, NEXT)] == [200, 401]
    assert [process.pid for process in guarded.replicas()] == replicas


def _command_lines(processes: Sequence[psutil.Process]) -> str:
    return "\n".join(" ".join(process.cmdline()) for process in processes)


def _is_shown_nowhere(service: Service, *keys: str) -> None:
    """Assert that no key is in the console output, a log of Ray, Serve or HAProxy, a command line or an answer."""
    texts = {
        str(path): path.read_text(errors="replace") for path in service.log_folder().parent.rglob("*") if path.is_file()
    }
    assert any(f"replica_{service.application['name']}_Model" in path for path in texts)
    texts["printed"] = service.output.read_text()
    texts["ps"] = _command_lines(service.processes())
    texts["serve status"] = json.dumps(service.api().applications())
    texts["info"] = service.client.get("/info", headers=bearer(keys[0])).raise_for_status().text
    texts["refusal"] = service.post(CAT, headers=bearer(keys[0] + "x")).text
    for place, text in texts.items():
        for key in keys:
            assert key not in text, place


def test_a_key_is_shown_nowhere(guarded: Service) -> None:
    """No key is ever shown, and neither is a wrong one that a client sent: it may be valid for another service."""
    guarded.post(b"no image", headers=bearer(KEY))
    guarded.post(CAT, headers=bearer(NEXT))
    guarded.client.get("/nowhere", headers=bearer(KEY))
    _is_shown_nowhere(guarded, KEY, OTHER, NEXT)


@pytest.mark.slow
def test_keys_may_come_from_the_environment(tmp_path: Path) -> None:
    """Keys from the environment are not passed on to the decoder processes, and are shown nowhere."""
    with running(tmp_path, shipped_config(), **{KEYS_VARIABLE: f"{KEY},{OTHER}"}) as service:
        assert [service.post(CAT, headers=bearer(key)).status_code for key in (KEY, OTHER, NEXT)] == [200, 200, 401]
        _is_shown_nowhere(service, KEY, OTHER)
        decoders = service.replicas()[0].children(recursive=True)
        assert decoders
        assert not any(KEYS_VARIABLE in process.environ() for process in decoders)
