"""Trace spans: one for each stage, below Serve's span of the request.

Serve traces a sample of requests if `tracing_config` is enabled: https://docs.ray.io/en/latest/serve/monitoring.html.
These spans go to the same exporter.
"""

import time
from typing import Final

from opentelemetry import trace

from deployments.monitoring.timeline import Timeline

_TRACER: Final = trace.get_tracer("darkroom")


def record_spans(timeline: Timeline) -> None:
    """Record the spans of an answered request; do nothing if the request is not traced."""
    if not trace.get_current_span().is_recording():
        return
    to_unix_ns = time.time_ns() - time.perf_counter_ns()
    for stage, began_at, ended_at in timeline.spans():
        span = _TRACER.start_span(stage, start_time=to_unix_ns + int(1e9 * began_at))
        span.set_attribute("darkroom.images", len(timeline.images))
        span.end(to_unix_ns + int(1e9 * ended_at))
