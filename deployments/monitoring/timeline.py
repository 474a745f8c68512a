"""Times at which a request passed each stage."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.records import StageTimings

IMAGE_STAGES: Final = ("queue", "decode", "wait", "copy", "model")
STAGES: Final = ("read", *IMAGE_STAGES, "respond")
"""Stages in order. `wait` is the wait for the device; `queue` covers all other waiting, mostly before decoding."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """Times of one request (`time.perf_counter`), and the stage timings of its images."""

    began_at: float
    read_at: float  # its body had arrived
    ended_at: float  # its answer was made
    images: Sequence[StageTimings]  # of the images that reached the pipeline

    @property
    def total_s(self) -> float:
        """Seconds from the first byte to the answer."""
        return self.ended_at - self.began_at

    @property
    def read_s(self) -> float:
        """Seconds until the body had arrived."""
        return self.read_at - self.began_at

    @property
    def respond_s(self) -> float:
        """Seconds from the last image's outcome to the answer."""
        return self.ended_at - max((image.ended_at for image in self.images), default=self.read_at)

    def of(self, image: StageTimings) -> tuple[float, ...]:
        """Seconds of an image in each of `IMAGE_STAGES`; they sum up to the time from `read_at` to its outcome."""
        decode_s, wait_s, copy_s, model_s = image.decode_s, image.wait_s, image.copy_s, image.model_s
        queue_s = max(0.0, image.ended_at - self.read_at - decode_s - wait_s - copy_s - model_s)
        return queue_s, decode_s, wait_s, copy_s, model_s

    def spans(self) -> Iterator[tuple[str, float, float]]:
        """Yield each stage with the times when the first image began it and the last one ended it."""
        yield "read", self.began_at, self.read_at
        moments = {stage: list[float]() for stage in IMAGE_STAGES}
        for image in self.images:
            at = self.read_at
            for stage, length in zip(IMAGE_STAGES, self.of(image), strict=True):
                moments[stage] += (at, at + length)
                at += length
        for stage, known in moments.items():
            if known:
                yield stage, min(known), max(known)
        yield "respond", self.ended_at - self.respond_s, self.ended_at

    def longest(self) -> tuple[float, ...]:
        """Seconds of each stage, in the order of `STAGES`; for many images the longest."""
        lengths = [self.of(image) for image in self.images] or [(0.0,) * len(IMAGE_STAGES)]
        return (self.read_s, *map(max, zip(*lengths, strict=True)), self.respond_s)


def server_timing(stages_s: Sequence[float], total_s: float) -> str:
    """Format the header Server-Timing, in milliseconds (https://www.w3.org/TR/server-timing/)."""
    named = zip((*STAGES, "total"), (*stages_s, total_s), strict=True)
    return ", ".join(f"{name};dur={1e3 * seconds:.2f}" for name, seconds in named)
