"""Tests of changing `user_config` while the service runs: it is applied without a restart, or refused."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.photographs import jpeg, photograph
from tests.support.running_service import Service, live_config, with_user_config
from tests.support.waiting import until

CAT = jpeg(photograph("cat"))


def test_a_live_change_needs_no_restart(service: Service) -> None:
    """A live change applies at once, limits included, in the same replica process."""
    replicas = [process.pid for process in service.replicas()]
    with live_config(service, top_k=2, max_batch_size=8):
        assert len(service.post(CAT).raise_for_status().json()["predictions"]) == 2
    with live_config(service, max_image_bytes=1000):
        refused = service.post(CAT)
    assert refused.status_code == 413
    assert "1000" in refused.json()["detail"]
    assert len(service.post(CAT).raise_for_status().json()["predictions"]) == 5
    assert [process.pid for process in service.replicas()] == replicas


def test_an_edited_file_is_deployed_by_command(service: Service) -> None:
    """An edited file is deployed by the command that `make deploy` runs."""
    command = [str(Path(sys.executable).with_name("serve")), "deploy", "--address", service.api().address()]
    with live_config(service, top_k=2):
        service.path.write_text(yaml.safe_dump(with_user_config(service, top_k=3)))
        subprocess.run([*command, str(service.path)], env=dict(service.environment), check=True, timeout=60)
        until(lambda: service.info()["user_config"]["top_k"] == 3)


@pytest.mark.parametrize(
    ("user_config", "says"),
    [
        ({"top_k": 11}, "max_top_k: 10"),
        ({"topk": 5}, "topk"),
        ({"max_image_pixels": -1}, "max_image_pixels"),
    ],
)
def test_a_bad_user_config_leaves_the_old_one_in_force(
    service: Service, user_config: dict[str, Any], says: str
) -> None:
    """A bad `user_config` leaves the old one in force; /info and the log say what is wrong and what to write."""
    before, replicas = service.info()["user_config"], [process.pid for process in service.replicas()]
    service.deploy(with_user_config(service, **user_config))
    until(lambda: service.info()["refused_user_config"] is not None)
    info = service.info()
    answered = service.post(CAT)
    service.deploy(service.config)
    until(lambda: service.info()["refused_user_config"] is None)

    assert says in info["refused_user_config"]
    assert info["user_config"] == before
    assert answered.status_code == 200
    assert "user_config refused" in service.output.read_text()
    assert [process.pid for process in service.replicas()] == replicas
