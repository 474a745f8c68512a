"""Fixtures of the tests of HTTP: HAProxy before a stand-in replica, and uvicorn before a stand-in for Serve."""

import asyncio
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import Any

import pytest
from ray.serve._private import http_util
from ray.serve._private.http_util import configure_http_options_with_defaults, start_asgi_http_server
from ray.serve.config import HTTPOptions

from deployments.http import middleware as front
from deployments.http.haproxy import HALF_CLOSE_VARIABLE, edited
from deployments.http.haproxy_rules import SECRET_VARIABLE
from deployments.local.endpoint import read_env
from harness.ports import free_port
from harness.repository import ROOT
from tests.support.balancer import balancing, rendered
from tests.support.counted_places import HOOK, CountedPlaces
from tests.support.echo_replica import MAX_OPEN_FILES, EchoServer
from tests.support.waiting import until


@pytest.fixture(scope="module")
def replica() -> Iterator[tuple[str, int]]:
    """Port of a server that stands in for a replica."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), EchoServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield ("127.0.0.1", server.server_port)
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def balanced(tmp_path_factory: pytest.TempPathFactory, replica: tuple[str, int]) -> Iterator[int]:
    """Port of a HAProxy in front of that server."""
    folder, port = tmp_path_factory.mktemp("haproxy"), free_port()
    text = edited(rendered(folder, "127.0.0.1", port, replica), {}, 1, MAX_OPEN_FILES)
    with balancing(folder, text, port, **{SECRET_VARIABLE: "secret-of-the-run"}):
        yield port


@pytest.fixture(scope="module")
def places() -> CountedPlaces:
    """Return the stand-in for Serve."""
    return CountedPlaces()


@pytest.fixture(scope="module")
def uvicorn(places: CountedPlaces) -> Iterator[int]:
    """Port at which the application answers, behind uvicorn and the middleware."""
    port, servers = free_port(), list[Any]()

    async def serve() -> None:
        options = configure_http_options_with_defaults(HTTPOptions(host="127.0.0.1", port=port))
        options = http_util.configure_http_middlewares(options)
        task, server = await start_asgi_http_server(places, options, event_loop=asyncio.get_running_loop())
        servers.append(server)
        await task

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(front, "_application_is_here", lambda: True)
        patch.setenv(HALF_CLOSE_VARIABLE, "1")
        patch.setenv(SECRET_VARIABLE, "secret-of-the-run")
        patch.setattr(http_util, HOOK, read_env(ROOT / "serve.env")[HOOK])
        thread = threading.Thread(target=asyncio.run, args=(serve(),))
        thread.start()
        until(lambda: servers and servers[0].started)
        yield port
    servers[0].should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def haproxy(tmp_path_factory: pytest.TempPathFactory, uvicorn: int) -> Iterator[int]:
    """Port at which HAProxy answers, in front of the application."""
    folder, port = tmp_path_factory.mktemp("haproxy"), free_port()
    variables = {HALF_CLOSE_VARIABLE: "1", SECRET_VARIABLE: "secret-of-the-run"}
    text = edited(rendered(folder, "127.0.0.1", port, ("127.0.0.1", uvicorn)), variables, 1, MAX_OPEN_FILES)
    with balancing(folder, text, port, **variables):
        yield port


@pytest.fixture(params=["uvicorn", "haproxy"])
def port(request: pytest.FixtureRequest) -> int:
    """Port of uvicorn or of HAProxy, in turn, as a request may also bypass HAProxy."""
    port: int = request.getfixturevalue(request.param)
    return port
