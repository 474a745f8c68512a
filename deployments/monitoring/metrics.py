"""Metrics of a replica for Prometheus, published through Ray.

Ray puts `ray_` before each name and adds application, deployment and replica as labels. Prometheus scrapes Ray's agent
on each node: https://docs.ray.io/en/latest/cluster/metrics.html. Names and units follow
https://prometheus.io/docs/practices/naming/.
"""

from typing import Final, cast

from ray.serve import metrics

from deployments.monitoring.gauge_histogram import GaugeHistogram
from deployments.monitoring.last_minute import EndedRequests
from deployments.monitoring.timeline import STAGES
from pipeline.stats import EngineStats

_BUCKET_DIGITS: Final = (1.0, 2.0, 5.0)
STAGE_BUCKETS_S: Final = [digit * 10.0**power for power in range(-4, 2) for digit in _BUCKET_DIGITS]
"""Bucket limits from 0.1 ms, the time of a copy, to 50 s."""

BATCH_IMAGES_BUCKETS: Final = [float(2**power) for power in range(10)]


class Metrics:
    """Publishes the metrics of a replica."""

    def __init__(self) -> None:
        self._published = EngineStats(0.0, 0.0, {}, 0, 0, 0, 0, 0, 0, 0, 0)
        self._requests = _counter(
            "requests_total", "requests that ended, by outcome: predicted, or an error", "outcome"
        )
        self._images = _counter("images_total", "images that ended, by outcome: predicted, or an error", "outcome")
        self._seconds = GaugeHistogram(
            "darkroom_request_seconds", "seconds from a request's first byte to its answer", STAGE_BUCKETS_S
        )
        self._stages = GaugeHistogram(
            "darkroom_stage_seconds",
            "seconds of a request in each stage; for many images the longest",
            STAGE_BUCKETS_S,
            "stage",
        )
        self._batches = GaugeHistogram(
            "darkroom_batch_images", "images in each batch on the device", BATCH_IMAGES_BUCKETS
        )
        self._decoding = _counter(
            "decoding_seconds_total", "seconds that workers have spent decoding, spare workers included"
        )
        self._computing = _counter(
            "computing_seconds_total", "seconds that the device has spent on batches; concurrent batches add up"
        )
        self._dropped = _counter("images_dropped_total", "images dropped undecoded: their clients no longer waited")
        self._replaced = _counter(
            "decode_workers_replaced_total", "decode workers that died or were killed, and were replaced"
        )
        self._workers = _gauge("decode_workers", "decode workers, without spare ones")
        self._most_decoding = _gauge(
            "decode_workers_at_most",
            "decode workers that decode images of one kind at a time at most; on a CPU spare ones help",
        )
        self._workers_ready = _gauge(
            "decode_workers_ready", "decode workers that take images; fewer while a dead one has no spare"
        )
        self._concurrent_batches = _gauge("concurrent_batches", "batches that the device computes at a time")
        self._workers_busy = _gauge("decode_workers_busy_ratio", "share of time that workers decode, 0 to 1")
        self._device_busy = _gauge("device_busy_ratio", "share of time that the device computes, 0 to 1")
        self._in_work = _gauge("images_in_work", "images accepted by the engine without an outcome yet")
        self._free_slots = _gauge("free_slots", "free places for decoded images that wait for the device")
        self._held_bytes = _gauge("encoded_bytes_in_flight", "bytes of the bodies of requests in work")

    def publish(self, ended: EndedRequests, engine_stats: EngineStats, held_bytes: int, seconds: float) -> None:
        """Update all metrics.

        Ray is slow to take each figure, so a thread calls this once a second: the event loop must not wait for it.

        Args:
            ended: requests and images that ended since the last call.
            engine_stats: current counters of the engine.
            held_bytes: bytes of the bodies in work.
            seconds: time since the last call.
        """
        self._publish_ended(ended)
        self._publish_engine_stats(engine_stats, seconds)
        self._held_bytes.set(held_bytes)

    def _publish_ended(self, ended: EndedRequests) -> None:
        for counter, counts in ((self._requests, ended.requests), (self._images, ended.images)):
            for outcome, count in counts.items():
                counter.inc(count, {"outcome": outcome})
        for took_s in ended.took_s:
            self._seconds.observe(took_s)
        for stages_s in ended.stages_s:
            for stage, stage_s in zip(STAGES, stages_s, strict=True):
                self._stages.observe(stage_s, of=stage)
        self._seconds.publish()
        self._stages.publish()

    def _publish_engine_stats(self, engine_stats: EngineStats, seconds: float) -> None:
        last, self._published = self._published, engine_stats
        decoding_s, computing_s = engine_stats.decoding_s - last.decoding_s, engine_stats.computing_s - last.computing_s
        for counter, more in (
            (self._decoding, decoding_s),
            (self._computing, computing_s),
            (self._dropped, engine_stats.images_dropped - last.images_dropped),
            (self._replaced, engine_stats.workers_replaced - last.workers_replaced),
        ):
            if more > 0:  # Ray refuses 0
                counter.inc(more)
        for images, count in engine_stats.batches.items():
            self._batches.observe(images, count - last.batches.get(images, 0))
        self._batches.publish()
        self._workers.set(engine_stats.decode_workers)
        self._most_decoding.set(engine_stats.most_decoding)
        self._workers_ready.set(engine_stats.workers_ready)
        self._concurrent_batches.set(engine_stats.concurrent_batches)
        self._workers_busy.set(min(1.0, decoding_s / seconds / engine_stats.most_decoding))
        self._device_busy.set(min(1.0, computing_s / seconds / engine_stats.concurrent_batches))
        self._in_work.set(engine_stats.in_work)
        self._free_slots.set(engine_stats.free_slots)


def _counter(name: str, description: str, *labels: str) -> metrics.Counter:
    return metrics.Counter(f"darkroom_{name}", description=description, tag_keys=cast(tuple[str], labels))


def _gauge(name: str, description: str) -> metrics.Gauge:
    return metrics.Gauge(f"darkroom_{name}", description=description)
