"""A configuration with every setting written out, changed at will, and its faults by key."""

from pathlib import Path
from typing import Final

from deployments.checks.configuration import read_configuration
from deployments.checks.serve_faults import all_faults
from harness.repository import ROOT

WRITTEN_OUT: Final = (ROOT / "tests/support/every_setting.yaml").read_text()
USER_CONFIG: Final = "applications.0.deployments.0.user_config"
SCALING: Final = "applications.0.deployments.0.autoscaling_config"
BEHIND_HAPROXY: Final = {"RAY_SERVE_ENABLE_HA_PROXY": "1"}
"""Environment of a service behind HAProxy."""


def faults_of(folder: Path, text: str, **environment: str) -> dict[str, str]:
    """Return the errors of a configuration, by the paths of the keys."""
    file = folder / "serve_config.yaml"
    file.write_text(text)
    faults = read_configuration(file).faults(environment, all_faults)
    return dict(fault.partition(": ")[::2] for fault in faults)


def changed(old: str, new: str) -> str:
    """Return the configuration with another text in one place."""
    assert WRITTEN_OUT.count(old) >= 1, old
    return WRITTEN_OUT.replace(old, new, 1)
