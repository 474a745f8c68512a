"""A second protocol, JSON-RPC 2.0: the adapter that a new protocol needs, in one file. Only tests use it.

-> {"jsonrpc": "2.0", "id": 1, "method": "classify", "params": {"images": ["<base64>", ...], "timeout_s": 5}}
<- {"jsonrpc": "2.0", "id": 1, "result": {"images": [{"label": ..., "score": ...} or {"error": ...}], "ms": 12.3}}
"""

import base64
import json
from typing import Any, Final

from deployments.http.responses import described
from deployments.service import Deadline, InferenceService
from pipeline.errors import ClientError, DarkroomError
from pipeline.records import EncodedImage, Outcome, Rejection

INVALID, BUSY = -32602, -32000
"""Codes of https://www.jsonrpc.org/specification, section 5.1."""

_TIMEOUT_S: Final = 10.0


async def answer(service: InferenceService, line: bytes, client: str) -> dict[str, Any]:
    """Answer one request.

    Args:
        service: the inference service.
        line: the request.
        client: address of the client.
    """
    asked = json.loads(line)
    reply = {"jsonrpc": "2.0", "id": asked["id"]}
    try:
        return {**reply, "result": await _classified(service, asked["params"], line, client)}
    except DarkroomError as error:
        service.note_refused(error)
        code = INVALID if isinstance(error, ClientError) else BUSY
        return {**reply, "error": {"code": code, "message": str(error), "data": described(error)}}


async def _classified(service: InferenceService, params: dict[str, Any], line: bytes, client: str) -> dict[str, Any]:
    deadline = Deadline(params.get("timeout_s", _TIMEOUT_S))
    service.admission.check(len(line), deadline.left_s)
    with service.hold(client) as hold:
        hold.take(len(line))
        hold.finish()
        images = [EncodedImage(base64.b64decode(text)) for text in params["images"]]
        inference = await service.infer(images, deadline)
    results = [_result(outcome) for outcome in inference.outcomes]
    _, total_s = service.note_answered(inference)
    return {"images": results, "ms": round(1e3 * total_s, 2)}


def _result(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Rejection):
        return {"error": described(outcome.error)}
    (best,) = outcome.as_json(top_k=1)["predictions"]
    return {"label": best["label"], "score": best["score"]}
