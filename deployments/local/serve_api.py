"""Client of the dashboard's REST API: lists applications and nodes, and deploys a configuration.

`serve status` and `serve deploy` use the same API, but import Ray first: 2 to 3 s of one core.
https://docs.ray.io/en/latest/serve/api/index.html#serve-rest-api
"""

from collections.abc import Mapping
from typing import Any, Final

import httpx
import psutil

from deployments.local.machine import leftovers
from deployments.local.ray_token import read_token
from deployments.node import Node

DASHBOARD_PORTS: Final = range(8265, 8316)
"""Ports of the dashboard, which takes the first free one."""

_APPLICATIONS_PATH: Final = "/api/serve/applications/"
_NODES_PATH: Final = "/api/v0/nodes?limit=10000"
_VERSION_PATH: Final = "/api/version"

_QUERY_TIMEOUT_S: Final = 5.0
_DEPLOY_TIMEOUT_S: Final = 60.0


class ServeApiError(Exception):
    """The dashboard does not answer, or refuses the request; the message says which, and why."""


class ServeApi:
    """REST API of one run on this machine, or of a cluster; usable once its dashboard listens.

    Args:
        run: name of the run.
        environment: environment variables of its processes, which may hold Ray's token.
        address: URL of the dashboard of a cluster; None for that of the run.
    """

    def __init__(self, run: str, environment: Mapping[str, str], address: str | None = None) -> None:
        self._run, self._environment, self._address = run, environment, address
        self._client = httpx.Client(trust_env=False, headers={"Connection": "close"})  # 10 ms of a core to make

    def applications(self) -> dict[str, Any]:
        """Return the deployed applications by name, as in `serve status`.

        Raises:
            ServeApiError: the dashboard does not answer.
        """
        found: dict[str, Any] = self._ask("GET", _APPLICATIONS_PATH, _QUERY_TIMEOUT_S).json()["applications"]
        return found

    def deploy(self, document: Mapping[str, Any]) -> None:
        """Deploy a configuration, as `serve deploy` does; return before the configuration is in force.

        Args:
            document: content as in serve_config.yaml.

        Raises:
            ServeApiError: the configuration is not accepted.
        """
        self._ask("PUT", _APPLICATIONS_PATH, _DEPLOY_TIMEOUT_S, document)

    def nodes(self) -> list[tuple[str, Node]]:
        """Return the nodes that are alive, each with its IP address and its total resources.

        Raises:
            ServeApiError: the dashboard does not answer, or Ray has no node yet.
        """
        try:
            listed = self._ask("GET", _NODES_PATH, _QUERY_TIMEOUT_S).json()["data"]["result"]["result"]
        except (ValueError, KeyError, TypeError) as error:
            raise ServeApiError("another program than Ray's dashboard answers") from error
        alive = [(node["node_ip"], node["resources_total"]) for node in listed if node["state"] == "ALIVE"]
        if not alive:
            raise ServeApiError("Ray has no node yet")
        return [(address, Node(each.get("CPU", 0.0), each.get("GPU", 0.0))) for address, each in alive]

    def dashboard_answers(self) -> bool:
        """Return whether the dashboard answers at all, without asking Serve."""
        try:
            self._ask("GET", _VERSION_PATH, _QUERY_TIMEOUT_S)
            return True
        except ServeApiError:
            return False

    def address(self) -> str:
        """Return the URL of the dashboard, as Ray's commands take it.

        Raises:
            ServeApiError: the run has no dashboard.
        """
        if self._address:
            return self._address.rstrip("/")
        for process in leftovers(self._run):
            try:
                if any(part.endswith("dashboard/dashboard.py") for part in process.cmdline()):
                    listening = [c for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
                    port = min({connection.laddr.port for connection in listening} & set(DASHBOARD_PORTS))
                    return f"http://127.0.0.1:{port}"
            except (psutil.Error, ValueError):  # the process has ended, or does not listen yet
                continue
        raise ServeApiError("the run has no dashboard")

    def _ask(
        self, method: str, path: str, within_s: float, document: Mapping[str, Any] | None = None
    ) -> httpx.Response:
        url = f"{self.address()}{path}"
        headers = {"Authorization": f"Bearer {token}"} if (token := read_token(self._environment)) else {}
        try:
            response = self._client.request(method, url, json=document, headers=headers, timeout=within_s)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ServeApiError(f"Ray's dashboard does not answer: {error}") from error
        if response.is_error:
            raise ServeApiError(f"Ray's dashboard answers {response.status_code}: {response.text[-500:]}")
        return response
