"""Test of the application of the benchmark `HTTP alone`."""

import asyncio
from collections.abc import AsyncIterator

import httpx

from benchmarks.echo import APP
from deployments.http.lingering import Lingering
from tests.support.waiting import PATIENCE_S


async def _pieces() -> AsyncIterator[bytes]:
    for _ in range(3):
        yield bytes(1000)


def test_a_body_of_many_pieces_is_read_to_its_end() -> None:
    """A body of many pieces is read to its end, behind the middleware of serve.env, which reads only on demand."""

    async def answer() -> str:
        transport = httpx.ASGITransport(Lingering(APP, on_demand=True))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client, asyncio.timeout(PATIENCE_S):
            return (await client.post("/predict", content=_pieces())).text

    assert asyncio.run(answer()) == "3000"
