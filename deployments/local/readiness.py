"""Follows a start: which applications answer, and which have failed."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import httpx

from deployments.local.application_health import ServicePort
from deployments.local.endpoint import Endpoint
from deployments.local.serve_api import ServeApi, ServeApiError
from deployments.local.start_failure import shortened

Info = dict[str, Any]
"""Document of GET /info."""


class Readiness:
    """Follows the start of each application until it answers or has failed.

    Args:
        endpoints: addresses of the applications.
        api: Serve's API of the run.
        need_gpu: names of the applications that need a GPU.

    Attributes:
        answering: GET /info of each application that answers it; None if the application asks for a key.
        failed: reason of each application that has failed, by its name.
    """

    def __init__(self, endpoints: Sequence[Endpoint], api: ServeApi, need_gpu: Collection[str]) -> None:
        self.answering = dict[Endpoint, Info | None]()
        self.failed = dict[str, str]()
        self._without_info = list[Endpoint]()
        self._endpoints, self._api, self._need_gpu = endpoints, api, need_gpu
        self._waiting = {endpoint: ServicePort(endpoint) for endpoint in endpoints}

    @property
    def waiting(self) -> list[Endpoint]:
        """Addresses of the applications that neither answer nor have failed."""
        return list(self._waiting)

    @property
    def served(self) -> dict[Endpoint, Info | None]:
        """GET /info of each application that is ready, in the order of the file; empty for one that is not Darkroom."""
        ready = self.answering | {endpoint: {} for endpoint in self._without_info}
        return {endpoint: ready[endpoint] for endpoint in self._endpoints if endpoint in ready}

    def ask(self) -> None:
        """Ask the applications that do not answer yet."""
        for endpoint, port in [*self._waiting.items()]:
            if response := port.info():
                self.answering[endpoint] = document_of(response)
                del self._waiting[endpoint]

    def ask_serve(self) -> dict[str, str]:
        """Ask Serve about the applications that do not answer yet; return the new failures by name, with reasons.

        A failed application would never answer; `serve run` does not end, and in its throughput mode prints nothing.
        """
        try:
            applications = self._api.applications()
        except ServeApiError:  # it is on its way, or has gone
            applications = {}
        for each in self.waiting:
            if not each.is_darkroom and applications.get(each.application, {}).get("status") == "RUNNING":
                self._without_info.append(each)
                del self._waiting[each]
        waiting = {each.application for each in self._waiting}
        new = {name: reason for name in waiting if (reason := failure(applications.get(name, {})))}
        if (need := waiting & set(self._need_gpu)) and (says := gpu_missing(self._api)):
            new = dict.fromkeys(need, says) | new
        return self._note(new)

    def give_up(self, after_s: float) -> dict[str, str]:
        """Count the applications that do not answer yet as failed; return them by name, with reasons."""
        says = "/info does not answer after"
        return self._note({each.application: f"{each.url}{says} {after_s:.0f} s" for each in self._waiting})

    def _note(self, failures: Mapping[str, str]) -> dict[str, str]:
        self.failed |= failures
        self._waiting = {each: port for each, port in self._waiting.items() if each.application not in failures}
        return dict(failures)


def document_of(response: httpx.Response) -> Info | None:
    """Return the JSON object of GET /info; None for another status, an empty one for any other text."""
    if response.status_code != httpx.codes.OK:
        return None
    try:
        found = response.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def failure(application: Mapping[str, Any]) -> str | None:
    """Return the reason why an application has finally failed to deploy; None for any other application."""
    if application.get("status") != "DEPLOY_FAILED":
        return None
    deployments = [
        str(each["message"]).strip() for each in application.get("deployments", {}).values() if each.get("message")
    ]
    messages = deployments or [str(application.get("message") or "").strip()]  # the latter only names the deployments
    return "\n".join(map(shortened, messages)) or "Serve gives no reason"


def gpu_missing(api: ServeApi) -> str | None:
    """Ask Ray whether this machine has a GPU; return advice if it has none, else None.

    A replica would wait for a node with a GPU. On a cluster this is right, but the Ray of this run never gets another
    node.
    """
    try:
        if any(node.gpus for _, node in api.nodes()):
            return None
    except ServeApiError:  # it is on its way, or has gone
        return None
    return (
        "device: cuda needs a GPU, and Ray finds none on this machine: check that nvidia-smi lists one and that "
        "CUDA_VISIBLE_DEVICES does not hide it, or write device: auto. (On a cluster, `serve deploy` waits for a node "
        "with a GPU.)"
    )
