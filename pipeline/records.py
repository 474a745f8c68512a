"""What travels through the pipeline; decoded pixels have a file of their own. Loads no torch: its users need not."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import ImageError

Bytes = bytes | bytearray | memoryview


class EncodedImage:
    """One image as the client sent it: a JPEG, PNG, ... file, in one piece or in several that follow each other.

    A body arrives in pieces. They are not joined here, since `Slots.write_encoded` copies them anyway.

    Attributes:
        pieces: the file.
        size: its bytes.
        price_s: seconds of one core that decoding it should take; None until `examine` has told it from the header.
    """

    __slots__ = ("pieces", "price_s", "size")

    def __init__(self, *pieces: Bytes) -> None:
        self.pieces = pieces
        self.size = sum(map(len, pieces))
        self.price_s: float | None = None


@dataclass(frozen=True, slots=True)
class StageTimings:
    """Where the time of one image went, in seconds: one stage after the other. Stages that it did not reach are 0."""

    queue_s: float = 0.0  # waiting for a worker
    decode_s: float = 0.0  # bytes -> uint8 pixels
    wait_s: float = 0.0  # decoded, waiting for the device
    copy_s: float = 0.0  # the pixels of its batch -> the device
    model_s: float = 0.0  # its batch, with the copy of the answers back
    ended_at: float = 0.0  # when its outcome was there, by `time.perf_counter`


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one image."""

    result: Any  # of its head: a mapping that can be written as JSON, or an object with `as_json`
    timings: StageTimings = field(default=StageTimings(), compare=False)

    def as_json(self, **parameters: int) -> Mapping[str, Any]:
        """The result as a document, made with parameters of the head such as `top_k`."""
        result: Mapping[str, Any] = self.result
        return self.result.as_json(**parameters) if hasattr(result, "as_json") else result


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why one image has no prediction."""

    error: ImageError
    timings: StageTimings = field(default=StageTimings(), compare=False)


Outcome = Prediction | Rejection


@dataclass(frozen=True, slots=True)
class Transform:
    """What a worker does with an image: resize the shorter side, then crop the centre square."""

    resize_px: int
    crop_px: int
    interpolation: str  # a name of PIL.Image.Resampling, in lower case
    decode: str  # "fast" | "exact"
    formats: tuple[str, ...]  # names of Pillow's formats
    background: str = "white"  # a colour on which transparent pixels are laid, or "drop", which leaves transparency out
