"""A span a stage, below the one that Serve makes of a request.

Serve makes one where `tracing_config` is enabled, and samples: https://docs.ray.io/en/latest/serve/monitoring.html.
What it exports to, these go to as well.
"""

import time
from typing import Final

from opentelemetry import trace

from deployments.monitoring.timeline import Timeline

_TRACER: Final = trace.get_tracer("darkroom")


def record_spans(timeline: Timeline) -> None:
    """Tells of a request that was answered; does nothing where it is not traced."""
    if not trace.get_current_span().is_recording():
        return
    to_unix_ns = time.time_ns() - time.perf_counter_ns()
    for stage, began_at, ended_at in timeline.spans():
        span = _TRACER.start_span(stage, start_time=to_unix_ns + int(1e9 * began_at))
        span.set_attribute("darkroom.images", len(timeline.images))
        span.end(to_unix_ns + int(1e9 * ended_at))
