"""Fixtures that these tests share: one service of several applications, which ends after the last of them."""

from collections.abc import Iterator

import pytest

from tests.support.running_service import Service, running
from tests.support.several_applications import EXACT_AT, several_config


@pytest.fixture(scope="package")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Several applications in one service (`tests/support/several_applications.py`)."""
    folder = tmp_path_factory.mktemp("several")
    with running(folder, several_config(folder), PYTHONPATH=str(folder)) as service:
        yield service


@pytest.fixture(scope="package")
def guarded(several: Service) -> Iterator[Service]:
    """Return the application among them that has two keys in a file, and allows web pages of two origins."""
    guarded = Service(several.local, EXACT_AT)
    yield guarded
    guarded.client.close()
