"""Fixture that the tests of keys and of origins share: one service with both."""

import copy
from collections.abc import Iterator

import pytest

from harness.local_service import shipped_config
from tests.support.keys import KEY, OTHER, keys_file
from tests.support.running_service import Service, running

ORIGINS = ("https://example.org", "http://127.0.0.1:3000")


@pytest.fixture(scope="package")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with two keys in a file, which allows web pages of two origins."""
    folder = tmp_path_factory.mktemp("guarded")
    config = copy.deepcopy(shipped_config())
    arguments = config["applications"][0]["args"]
    arguments["api_keys_file"] = str(keys_file(folder, f"{KEY}\n{OTHER}\n"))
    arguments["cors_origins"] = list(ORIGINS)
    arguments["pipeline"]["runtime"] = "torch"  # to compare runtimes would take a quarter of the start
    with running(folder, config) as service:
        yield service
