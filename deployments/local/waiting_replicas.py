"""Warnings about replicas that Ray has not placed: shown only while fewer than `min_replicas` run.

Serve asks for up to `max_replicas` under load, and warns every half minute while one of them waits for resources. On
one machine it waits until another replica has stopped, and the service is healthy all the while.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from deployments.local.serve_api import ServeApiError

_WARNING: Final = re.compile(
    r"Deployment '(?P<deployment>[^']*)' in application '(?P<application>[^']*)' has \d+ replicas that have taken more "
    r"than [\d.]+s to be scheduled\. .*Resources required for each replica: (?P<needed>.*?), "
    r"total resources available: (?P<free>.*?)\. "
)


_SERVING: Final = ("RUNNING", "UPDATING", "PENDING_MIGRATION")
"""States of a replica that answers requests."""


class WaitingReplicas:
    """Selects Serve's warnings about unplaced replicas that a user should see, and rewrites them in plain words.

    Args:
        applications: asks Serve for its applications, as `ServeApi.applications` does.
    """

    def __init__(self, applications: Callable[[], Mapping[str, Any]]) -> None:
        self._applications = applications
        self._said: str | None = None

    def concerns(self, line: str) -> bool:
        """Return whether a line is a warning about unplaced replicas."""
        return _WARNING.search(line) is not None

    def news(self, line: str) -> str | None:
        """Return the sentence to show for such a warning; None if enough replicas run, or it has been shown."""
        sentence = self._sentence(line)
        is_new, self._said = sentence != self._said, sentence
        return sentence if is_new else None

    def _sentence(self, line: str) -> str | None:
        warning = _WARNING.search(line)
        if warning is None:
            return None
        try:
            deployment = self._applications()[warning["application"]]["deployments"][warning["deployment"]]
            running, least = _running(deployment), _least(deployment["deployment_config"])
        except (ServeApiError, KeyError, ValueError, OSError):  # Serve is starting, ends, or hangs
            running, least = 0, 1
        if running >= least:
            return None
        of = f"only {running} of the {least} replicas" if running else "no replica"
        of = f"{of} of application {warning['application']}"
        needed, free = _amounts(warning["needed"]), _amounts(warning["free"])
        if _has_room(needed, free):
            return f"{of} has started so far: this machine has room, and Ray is still starting processes"
        return (
            f"{of} can be placed: each needs {_words(needed)}, and free on this machine is {_words(free)}; write a "
            "smaller num_cpus or device: cpu under args, or min_replicas: 1"
        )


def _running(deployment: Mapping[str, Any]) -> int:
    return sum(replica["state"] in _SERVING for replica in deployment["replicas"])


def _least(config: Mapping[str, Any]) -> int:
    scaling = config.get("autoscaling_config")
    return max(1, int(scaling["min_replicas"] if scaling else config["num_replicas"]))


def _has_room(needed: Mapping[str, float], free: Mapping[str, float]) -> bool:
    """Return whether there is room for certain: free shares of a GPU may lie on several."""
    is_share = not needed.get("GPU", 0.0).is_integer()
    return not is_share and all(amount <= free.get(name, 0.0) for name, amount in needed.items())


def _amounts(resources: str) -> dict[str, float]:
    """Read Ray's resources, such as {'CPU': 2.0, 'GPU': 0.0}; without those of which there are none."""
    found = re.findall(r"['\"]?(\w+)['\"]?: ([\d.]+)", resources)
    return {name: float(amount) for name, amount in found if float(amount)}


def _words(amounts: Mapping[str, float]) -> str:
    """Format amounts as "2 CPU and 1 GPU"."""
    return " and ".join(f"{amount:g} {name}" for name, amount in amounts.items()) or "none of it"
