"""Records that travel through the pipeline, except decoded pixels (`ready_queue.py`). Does not import torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.errors import ImageError
from pipeline.head_parameters import Value
from pipeline.result import Result, as_text

_STRIP_RATIO: Final = 20

Bytes = bytes | bytearray | memoryview


class EncodedImage:
    """One image as the client sent it: a JPEG, PNG, ... file, in one piece or in several consecutive pieces.

    A body arrives in pieces. They are not joined here, since `Slots.write_encoded` copies them anyway.

    Attributes:
        pieces: the pieces of the file, in order.
        size: number of bytes of the file.
        cost_s: seconds of one core that decoding should take; None until `examine` has read the header.
    """

    __slots__ = ("cost_s", "pieces", "size")

    def __init__(self, *pieces: Bytes) -> None:
        self.pieces = pieces
        self.size = sum(map(len, pieces))
        self.cost_s: float | None = None


@dataclass(frozen=True, slots=True)
class StageTimings:
    """Seconds that one image spent in each stage, in order; 0 for stages that it did not reach."""

    queue_s: float = 0.0  # waiting for a worker
    decode_s: float = 0.0  # bytes -> uint8 pixels
    wait_s: float = 0.0  # decoded, waiting for the device
    copy_s: float = 0.0  # copying the pixels of its batch to the device
    model_s: float = 0.0  # computing its batch, and copying the results back
    ended_at: float = 0.0  # when its outcome was complete, by `time.perf_counter`


@dataclass(frozen=True, slots=True)
class Prediction:
    """Result of the model for one image."""

    result: Any  # from the model's head: a `Result`, or a mapping that can be written as JSON
    timings: StageTimings = field(default=StageTimings(), compare=False)

    def as_json(self, **parameters: Value) -> Mapping[str, Any]:
        """Return the result as a JSON document; `parameters` are those of the head, such as `top_k`."""
        result: Mapping[str, Any] = self.result
        return self.result.as_json(**parameters) if hasattr(result, "as_json") else result

    def lines(self, **parameters: Value) -> list[str]:
        """Return the result as lines of text for people, one or more."""
        if isinstance(self.result, Result):
            return self.result.lines(**parameters)
        return [as_text(self.as_json(**parameters))]

    def cells(self, **parameters: Value) -> list[str]:
        """Return the result as cells of a row of CSV, one for each of the head's `columns`."""
        if isinstance(self.result, Result):
            return self.result.cells(**parameters)
        return [as_text(self.as_json(**parameters))]

    @property
    def takes_long(self) -> bool:
        """True if `as_json` takes so long that a service must call it in a thread."""
        return isinstance(self.result, Result) and self.result.takes_long


@dataclass(frozen=True, slots=True)
class Rejection:
    """Error of one image that has no prediction."""

    error: ImageError
    timings: StageTimings = field(default=StageTimings(), compare=False)


Outcome = Prediction | Rejection


@dataclass(frozen=True, slots=True)
class Transform:
    """Steps from a decoded image to the model's input: resize the shorter side, then crop the centre square."""

    resize_px: int  # the shorter side, or both sides if the transform squashes
    crop_px: int
    interpolation: str  # a name of PIL.Image.Resampling, in lower case
    decode: str  # "fast" | "exact"
    formats: tuple[str, ...]  # names of Pillow's formats
    background: str = "white"  # a colour on which transparent pixels are laid, or "drop", which leaves transparency out
    squash: bool = False  # whether the resize makes a square of every image, and so changes its proportions

    @property
    def blank_size(self) -> tuple[int, int]:
        """Width and height of the engine's own test image: as large as the resize."""
        return self.resize_px, self.resize_px


@dataclass(frozen=True, slots=True)
class UserTransform:
    """A transform of the user's own, which workers run as it is on the decoded image: upright, RGB, of full size."""

    name: str  # for people
    pickled: bytes = field(repr=False)  # the callable, by cloudpickle
    formats: tuple[str, ...]  # names of Pillow's formats
    background: str = "white"  # as of `Transform`
    decode: str = "exact"  # always: the transform is written for exact pixels
    blank_size: tuple[int, int] = (320, 240)  # width and height of a test image, which the transform takes


@dataclass(frozen=True, slots=True)
class FitTransform:
    """Steps from a decoded image to an input that shows all of it: resize to fit, and no crop. Sizes of inputs vary."""

    min_px: int  # the shorter side, unless that makes the longer one too long
    max_px: int  # most pixels of the longer side
    size_px: tuple[int, int] | None  # width and height of every input, for a model of one size: the image is stretched
    resize: str  # in `exact` mode: "pillow", as torchvision's presets, or "torch", as torchvision's detectors
    decode: str  # "fast" | "exact"
    formats: tuple[str, ...]  # names of Pillow's formats
    background: str = "white"  # as of `Transform`

    @property
    def makes_floats(self) -> bool:
        """True if inputs are float32 in 0..1, since torchvision's detectors resize floats; otherwise they are uint8."""
        return self.decode == "exact" and self.resize == "torch"

    @property
    def blank_size(self) -> tuple[int, int]:
        """Width and height of the engine's own test image: a strip, which a model of any size computes quickly."""
        return self.size_px or (self.max_px, max(1, self.max_px // _STRIP_RATIO))

    @property
    def most_pixels(self) -> int:
        """Pixels of the largest input."""
        if self.size_px:
            return self.size_px[0] * self.size_px[1]
        return min(self.min_px, self.max_px) * self.max_px


WorkerTransform = Transform | FitTransform | UserTransform
"""Steps of a worker from a decoded image to the model's input."""
