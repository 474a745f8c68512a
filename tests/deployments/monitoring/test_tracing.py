"""Tests of tracing spans, as Serve exports them by default: JSON documents in a file beside its logs."""

import json
import uuid
from collections.abc import Iterator

from deployments.monitoring.timeline import STAGES
from harness.local_service import Document, shipped_config
from harness.photographs import jpeg, photograph
from tests.support.image_files import slow_png
from tests.support.running_service import Service
from tests.support.waiting import until

CAT = jpeg(photograph("cat"))
PARENT = "00f067aa0ba902b7"
ROOT_SPAN = "replica_handle_request"


def _spans(service: Service) -> Iterator[Document]:
    for file in (service.log_folder() / "serve/spans").glob("*_Model_*"):
        rest, decoder = file.read_text().lstrip(), json.JSONDecoder()
        while rest:
            span, end = decoder.raw_decode(rest)
            yield span
            rest = rest[end:].lstrip()


def _traced(service: Service, *images: bytes) -> dict[str, Document]:
    """Send images with a `traceparent` that requests a trace; return the spans by name.

    The first requests after a start may pass Serve's Python proxy, until HAProxy knows the replica, and have no trace.
    """

    def attempt() -> dict[str, Document]:
        trace = uuid.uuid4().hex
        service.post_files(*images, headers={"traceparent": f"00-{trace}-{PARENT}-01"}).raise_for_status()
        spans = {span["name"]: span for span in _spans(service) if span["context"]["trace_id"] == f"0x{trace}"}
        return {ROOT_SPAN if name.startswith(ROOT_SPAN) else name: span for name, span in spans.items()}

    return until(lambda: spans if ROOT_SPAN in (spans := attempt()) else {})


def test_every_stage_has_a_span_below_the_request(service: Service) -> None:
    """Every stage has a span below the request's, in order and without gaps; the client's span is the parent."""
    spans = _traced(service, CAT)
    assert set(spans) == {ROOT_SPAN, *STAGES}
    assert spans[ROOT_SPAN]["parent_id"] == f"0x{PARENT}"
    stages = [spans[stage] for stage in STAGES]
    assert {stage["parent_id"] for stage in stages} == {spans[ROOT_SPAN]["context"]["span_id"]}
    moments = [stage[end] for stage in stages for end in ("start_time", "end_time")]
    assert moments == sorted(moments)
    assert spans[ROOT_SPAN]["start_time"] <= moments[0]
    assert stages[0]["attributes"] == {"darkroom.images": 1}


def test_many_images_share_their_spans(service: Service) -> None:
    """Many images in a request share one span for each stage, also where one is decoded much longer."""
    spans = _traced(service, CAT, slow_png(), CAT)
    assert set(spans) == {ROOT_SPAN, *STAGES}
    assert {spans[stage]["attributes"]["darkroom.images"] for stage in STAGES} == {3}


def test_what_is_not_sampled_leaves_no_span(service: Service) -> None:
    """A request is traced only if its client asks for it: no `traceparent` or an unsampled one leaves no span."""
    _traced(service, CAT)
    known = {span["context"]["trace_id"] for span in _spans(service)}
    service.post(CAT).raise_for_status()
    refused = uuid.uuid4().hex
    service.post(CAT, headers={"traceparent": f"00-{refused}-{PARENT}-00"}).raise_for_status()
    spans = _traced(service, CAT)  # sent after both others, and traced
    assert {span["context"]["trace_id"] for span in _spans(service)} - known == {spans["read"]["context"]["trace_id"]}


def test_nothing_is_traced_unless_it_is_asked_for() -> None:
    assert "tracing_config" not in shipped_config()
