"""Asks Serve on this machine for its applications and its nodes, and deploys others: by the dashboard's REST API.

`serve status` and `serve deploy` ask the same of it, but load Ray first: 2 to 3 s of one core.
https://docs.ray.io/en/latest/serve/api/index.html#serve-rest-api
"""

from collections.abc import Mapping
from typing import Any, Final

import httpx
import psutil

from deployments.local.machine import leftovers
from deployments.local.ray_token import read_token

DASHBOARD_PORTS: Final = range(8265, 8316)
"""The dashboard takes the first of these that is free."""

_APPLICATIONS_PATH: Final = "/api/serve/applications/"
_NODES_PATH: Final = "/api/v0/nodes"
_VERSION_PATH: Final = "/api/version"

_QUERY_TIMEOUT_S: Final = 5.0
_DEPLOY_TIMEOUT_S: Final = 60.0


class ServeApiError(Exception):
    """Nobody answers, or what was asked for is refused; the message says which, and why."""


class ServeApi:
    """That of one run, from the time on that its dashboard listens.

    Args:
        run: its name.
        environment: of its processes; Ray's token may be there.
    """

    def __init__(self, run: str, environment: Mapping[str, str]) -> None:
        self._run, self._environment = run, environment

    def applications(self) -> dict[str, Any]:
        """What is deployed, by name, as `serve status` tells it.

        Raises:
            ServeApiError: it cannot be asked.
        """
        found: dict[str, Any] = self._ask("GET", _APPLICATIONS_PATH, _QUERY_TIMEOUT_S).json()["applications"]
        return found

    def deploy(self, document: Mapping[str, Any]) -> None:
        """Has Serve bring about another configuration, as `serve deploy` does; returns before it is in force.

        Args:
            document: as in serve_config.yaml.

        Raises:
            ServeApiError: it is not accepted.
        """
        self._ask("PUT", _APPLICATIONS_PATH, _DEPLOY_TIMEOUT_S, document)

    def gpus(self) -> float:
        """GPUs of all nodes of the run's Ray together, as Ray has found them.

        Raises:
            ServeApiError: it cannot be asked, or has no node yet.
        """
        nodes = self._ask("GET", _NODES_PATH, _QUERY_TIMEOUT_S).json()["data"]["result"]["result"]
        alive = [node["resources_total"] for node in nodes if node["state"] == "ALIVE"]
        if not alive:
            raise ServeApiError("the run's Ray has no node yet")
        return float(sum(resources.get("GPU", 0.0) for resources in alive))

    def dashboard_answers(self) -> bool:
        """Whether the dashboard does, through which Serve is asked."""
        try:
            self._ask("GET", _VERSION_PATH, _QUERY_TIMEOUT_S)
            return True
        except ServeApiError:
            return False

    def address(self) -> str:
        """Of the dashboard, as Ray's commands want it.

        Raises:
            ServeApiError: there is none.
        """
        for process in leftovers(self._run):
            try:
                if any(part.endswith("dashboard/dashboard.py") for part in process.cmdline()):
                    listening = [c for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
                    port = min({connection.laddr.port for connection in listening} & set(DASHBOARD_PORTS))
                    return f"http://127.0.0.1:{port}"
            except (psutil.Error, ValueError):  # it has gone, or does not listen yet
                continue
        raise ServeApiError("the run has no dashboard")

    def _ask(
        self, method: str, path: str, within_s: float, document: Mapping[str, Any] | None = None
    ) -> httpx.Response:
        url = f"{self.address()}{path}"
        headers = {"Authorization": f"Bearer {token}"} if (token := read_token(self._environment)) else {}
        try:
            response = httpx.request(method, url, json=document, headers=headers, timeout=within_s, trust_env=False)
        except httpx.HTTPError as error:
            raise ServeApiError(f"Ray's dashboard does not answer: {error}") from error
        if response.is_error:
            raise ServeApiError(f"Ray's dashboard answers {response.status_code}: {response.text[-500:]}")
        return response
