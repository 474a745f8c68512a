"""What an engine and its stages have done since their start, and what they hold now."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DecodeStats:
    """Counts of the decode stage; `EngineStats` explains them."""

    decoding_s: float
    images_dropped: int
    workers_replaced: int
    workers_ready: int
    in_work: int  # images that somebody waits for and that are not decoded
    free_slots: int


@dataclass(frozen=True, slots=True)
class ModelStats:
    """Counts of the model stage; `EngineStats` explains them."""

    computing_s: float
    batches: Mapping[int, int]
    concurrent_batches: int
    in_work: int  # images that are on the device


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counts only rise: the difference of two says what happened between them."""

    decoding_s: float  # of all workers and spare ones together, up to now: what is in work counts while it runs
    computing_s: float  # of all concurrent batches of the device together, with the copies; likewise
    batches: Mapping[int, int]  # images of a batch, as the device took it: how many such batches
    images_dropped: int  # given up undecoded, as nobody waited for them any more
    workers_replaced: int

    decode_workers: int  # as many as decode ordinary images at a time; spare ones are not counted
    workers_ready: int  # those of them that take images: fewer while more have died than spare ones stood ready
    concurrent_batches: int  # batches that the device computes at a time
    in_work: int  # images that somebody waits for and that have no outcome yet
    free_slots: int

    @property
    def images(self) -> int:
        """That the device has computed."""
        return sum(images * batches for images, batches in self.batches.items())
