"""The dashboard for Grafana: what a service is at, and what holds it back, on one screen.

`python -m deployments.dashboard` writes `dashboard.json` beside this file. Its queries are those of `PANELS`, which a
test puts to Prometheus; Grafana's JSON model is at
https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).with_suffix(".json")

RATE_WINDOW: Final = "$__rate_interval"
"""Grafana's, which is at least four times as long as Prometheus takes from one scrape to the next."""

OR_NONE: Final = " or vector(0)"
"""A counter is first there when it has counted something."""

_COLUMNS: Final = 24  # of Grafana's grid


@dataclass(frozen=True, slots=True)
class Query:
    """One line of a panel; `legend` may name labels in double braces."""

    expression: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """A figure or a graph; `unit` by Grafana's names."""

    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    kind: str = "timeseries"
    stacked: bool = False
    most: float | None = None  # upper end of the scale


def _rate(metric: str, by: str = "") -> str:
    return f"sum{f' by ({by})' if by else ''} (rate(ray_darkroom_{metric}[{RATE_WINDOW}]))"


def _quantile(share: float, metric: str) -> str:
    return f"histogram_quantile({share}, {_rate(f'{metric}_bucket', 'le')})"


def _percentiles(metric: str) -> list[Query]:
    return [Query(_quantile(percent / 100, metric), f"p{percent}") for percent in (50, 95, 99)]


_REFUSED: Final = f"({_rate('requests_total{outcome=`Overloaded`}')}{OR_NONE}) / {_rate('requests_total')}"
_WORKERS_BUSY: Final = f"{_rate('decoding_seconds_total')} / sum(ray_darkroom_workers)"
_DEVICE_BUSY: Final = f"{_rate('computing_seconds_total')} / sum(ray_darkroom_device_lanes)"

ROWS: Final[Sequence[tuple[int, Sequence[Panel]]]] = (
    (
        4,
        (
            Panel(
                "Images",
                "Answered with a prediction.",
                "ops",
                [Query(_rate('images_total{outcome="predicted"}'))],
                "stat",
            ),
            Panel(
                "p99",
                "From a request's first byte to its answer.",
                "s",
                [Query(_quantile(0.99, "request_seconds"))],
                "stat",
            ),
            Panel(
                "Refused",
                "Share of requests that were told to come again, as too much was waiting.",
                "percentunit",
                [Query(_REFUSED)],
                "stat",
            ),
            Panel(
                "Workers",
                "Share of their time that decoders decode.",
                "percentunit",
                [Query(_WORKERS_BUSY)],
                "gauge",
                most=1,
            ),
            Panel(
                "Device",
                "Share of its time that the model's device has a batch.",
                "percentunit",
                [Query(_DEVICE_BUSY)],
                "gauge",
                most=1,
            ),
            Panel("Replicas", "That report.", "none", [Query("count(ray_darkroom_workers)")], "stat"),
        ),
    ),
    (
        8,
        (
            Panel(
                "Requests",
                "By outcome: predicted, or an error.",
                "reqps",
                [Query(_rate("requests_total", "outcome"), "{{outcome}}")],
                stacked=True,
            ),
            Panel(
                "Latency", "Of requests that were answered, without the network.", "s", _percentiles("request_seconds")
            ),
            Panel(
                "Stages",
                "Mean of what an image spends in each. A large `queue` wants workers, a large `wait` a quicker device.",
                "s",
                [
                    Query(
                        f"{_rate('stage_seconds_sum', 'stage')} / {_rate('stage_seconds_count', 'stage')}", "{{stage}}"
                    )
                ],
                stacked=True,
            ),
        ),
    ),
    (
        8,
        (
            Panel(
                "What is busy",
                "The busier one is the limit.",
                "percentunit",
                [Query(_WORKERS_BUSY, "workers"), Query(_DEVICE_BUSY, "device")],
                most=1,
            ),
            Panel(
                "Batch",
                "Images that the device takes at once: mean, and how it is spread.",
                "none",
                [
                    Query(f"{_rate('batch_images_sum')} / {_rate('batch_images_count')}", "mean"),
                    *_percentiles("batch_images"),
                ],
            ),
            Panel(
                "Waiting",
                "Images that have no outcome yet, and room for more between decoding and the device.",
                "none",
                [
                    Query("sum(ray_darkroom_images_in_work)", "in work"),
                    Query("sum(ray_darkroom_free_slots)", "free slots"),
                ],
            ),
        ),
    ),
    (
        7,
        (
            Panel(
                "Images by outcome",
                "Predicted, or what was wrong with them.",
                "ops",
                [Query(_rate("images_total", "outcome"), "{{outcome}}")],
                stacked=True,
            ),
            Panel(
                "Bytes in flight",
                "Bodies of requests in work.",
                "bytes",
                [Query("sum(ray_darkroom_encoded_bytes_in_flight)", "bytes")],
            ),
            Panel(
                "Decoders",
                "As many as there should be, and those that take images: fewer while one that died starts anew.",
                "none",
                [
                    Query("sum(ray_darkroom_workers)", "workers"),
                    Query("sum(ray_darkroom_workers_ready)", "ready"),
                ],
            ),
            Panel(
                "What went wrong",
                "Decoders that died or were ended, and images that nobody waited for any more.",
                "ops",
                [
                    Query(_rate("workers_replaced_total") + OR_NONE, "workers replaced"),
                    Query(_rate("images_dropped_total") + OR_NONE, "images dropped"),
                ],
            ),
        ),
    ),
)
"""From top to bottom: how high, and what stands there side by side."""

PANELS: Final = tuple(panel for _, panels in ROWS for panel in panels)


def document() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    panels, top = list[dict[str, Any]](), 0
    for height, row in ROWS:
        width = _COLUMNS // len(row)
        for position, panel in enumerate(row):
            place = {"x": position * width, "y": top, "w": width, "h": height}
            panels.append({"id": len(panels) + 1, "gridPos": place, **_panel(panel)})
        top += height
    source = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    return {
        "uid": "darkroom",
        "title": "Darkroom",
        "tags": ["darkroom", "ray-serve"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": [source]},
        "panels": panels,
    }


def _panel(panel: Panel) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.most is not None:
        defaults["max"] = panel.most
    if panel.stacked:
        defaults["custom"] = {"fillOpacity": 40, "stacking": {"mode": "normal"}}
    targets = [
        {"refId": chr(ord("A") + n), "datasource": source, "expr": query.expression, "legendFormat": query.legend}
        for n, query in enumerate(panel.queries)
    ]
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": source,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": targets,
    }


def text() -> str:
    """What stands in the file."""
    return json.dumps(document(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), "utf-8")
