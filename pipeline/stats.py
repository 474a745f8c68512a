"""Counts of the work of an engine and its stages since their start, and of their work in progress."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DecodeStats:
    """Counts of the decode stage; `EngineStats` explains them."""

    decoding_s: float
    images_dropped: int
    workers_replaced: int
    workers_ready: int
    most_decoding: int
    in_work: int  # images that are not decoded yet and whose requests still wait
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
    """Totals since the start, which only rise (subtract two readings for the work between them), and current values."""

    decoding_s: float  # decoding time of all workers together, spare ones included; images in work count up to now
    computing_s: float  # time of all concurrent batches together, copies included; batches in work count up to now
    batches: Mapping[int, int]  # images in a batch, without padding -> number of such batches
    images_dropped: int  # not decoded, because their requests no longer waited when it was their turn
    workers_replaced: int

    decode_workers: int  # processes that decode at a time while decoded images wait for the model, without spare ones
    most_decoding: int  # processes that decode images of one kind at a time while none waits: on a CPU spare ones help
    workers_ready: int  # how many of `decode_workers` take images: fewer while more have died than spare ones replace
    concurrent_batches: int  # batches that the device computes at a time
    in_work: int  # images that have no outcome yet and whose requests still wait
    free_slots: int

    @property
    def images(self) -> int:
        """Number of images that the device has computed."""
        return sum(images * batches for images, batches in self.batches.items())
