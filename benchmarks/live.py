"""Changes settings of a Darkroom that a benchmark has started, while it runs, as `serve deploy` does."""

import os
import time
from typing import Any, Final

import httpx

from benchmarks.kinds import Document
from benchmarks.servers import Server
from deployments.local.machine import run_of
from deployments.local.serve_api import ServeApi

WITHIN_S: Final = 30.0
_SETTLES_AFTER_S: Final = 1.0
"""HAProxy may be loaded anew after a deployment, and closes connections that it had."""


class Live:
    """Settings under `user_config` of a running Darkroom.

    Args:
        server: that runs.
        document: its configuration.
    """

    def __init__(self, server: Server, document: Document) -> None:
        self._document = document
        self._info = f"http://{server.target.host}:{server.target.port}/info"
        (replica, *_) = server.players("model")
        self._api = ServeApi(run_of(replica) or "", os.environ)

    def apply(self, **user_config: Any) -> None:
        """Deploys settings and waits until they are in force.

        Raises:
            TimeoutError: they are not.
        """
        (deployment,) = self._document["applications"][0]["deployments"]
        deployment["user_config"].update(user_config)
        self._api.deploy(self._document)
        deadline = time.monotonic() + WITHIN_S
        while not self._in_force(user_config):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{user_config} is not in force after {WITHIN_S:.0f} s")
            time.sleep(0.2)
        time.sleep(_SETTLES_AFTER_S)

    def _in_force(self, user_config: dict[str, Any]) -> bool:
        try:
            info = httpx.get(self._info, trust_env=False, timeout=10).raise_for_status().json()
        except httpx.HTTPError:
            return False
        return bool(user_config.items() <= info["user_config"].items())
