"""Preparation of images that keeps all of each image and its proportions, so that images of a batch differ in size."""

from dataclasses import dataclass

import torch

from pipeline.config import PipelineConfig
from pipeline.errors import InvalidModel
from pipeline.images.geometry import fitted
from pipeline.input_spec import InputSpec
from pipeline.records import FitTransform

_USUAL_PHOTOGRAPH = (4000, 3000)
_SETTINGS_OF_CLASSIFIERS = ("crop_px", "interpolation", "mean", "std")


@dataclass(frozen=True, slots=True)
class Fit:
    """Resize of each image to fit, without a crop and with bilinear interpolation, done by the decoder processes.

    The module gets a list of float tensors [3, height, width] in 0..1, one an image, all on the device. Only images
    that it pads to the same size are in one list, so that no answer depends on the images that happen to be beside.

    Attributes:
        min_px: the shorter side of every input, unless that makes the longer one too long.
        max_px: most pixels of the longer side.
        size_px: width and height of every input, if the module takes one size only: images are stretched to it.
        resize: in `decode: exact`, "pillow" resizes as torchvision's presets do, with antialiasing; "torch" as its
            detectors do. `fast` always antialiases.
        pads_to_px: the module pads both sides of its inputs to multiples of this; 1 if it does not pad.
    """

    min_px: int
    max_px: int
    size_px: tuple[int, int] | None = None
    resize: str = "torch"
    pads_to_px: int = 1

    def __str__(self) -> str:
        """Describe the sizes in one line."""
        if self.size_px:
            return f"stretched to {self.size_px[0]} x {self.size_px[1]}, bilinear"
        return f"resized to fit, shorter side {self.min_px}, longer side {self.max_px} at most, bilinear"

    @property
    def usual_size(self) -> tuple[int, int]:
        """Width and height of the input made of an ordinary photograph: 4 to 3."""
        return fitted(*_USUAL_PHOTOGRAPH, FitTransform(self.min_px, self.max_px, self.size_px, self.resize, "fast", ()))

    def input_spec(self, config: PipelineConfig) -> InputSpec:
        """Return the spec of a slot, which has space for the largest input: its values lie one behind the other."""
        steps = self.in_workers(config)
        return InputSpec((steps.most_pixels * 3,), torch.float32 if steps.makes_floats else torch.uint8)

    def described_input(self, config: PipelineConfig) -> str:
        """Describe the inputs as in a comment: "uint8 [height, width, 3], up to 1,066,400 pixels"."""
        spec = self.input_spec(config)
        return f"{str(spec.dtype).removeprefix('torch.')} [height, width, 3], up to {spec.shape[0] // 3:,} pixels"

    def in_workers(self, config: PipelineConfig) -> FitTransform:
        """Return the steps of the decoder processes, with the configuration's decode mode, formats and background."""
        sizes = self.min_px, self.max_px, self.size_px, self.resize
        return FitTransform(*sizes, config.decode, config.formats, config.background)


def refuse_settings(config: PipelineConfig, kind: str) -> None:
    """Refuse settings of the configuration that are those of a classifier.

    Args:
        config: the configuration.
        kind: kind of the model, as words.

    Raises:
        InvalidModel: there is such a setting.
    """
    for name in _SETTINGS_OF_CLASSIFIERS:
        if (value := getattr(config, name)) is not None:
            shown = [*value] if isinstance(value, tuple) else value
            raise InvalidModel(
                f"{name}: {shown} is a setting of classifiers; model: {config.model} is {kind}, which sees all of an "
                f"image and has its own values; leave {name} out"
            )
    if config.dtype not in ("auto", "float32"):
        raise InvalidModel(
            f"dtype: {config.dtype} is not for model: {config.model}, {kind}, which computes in float32; write float32"
        )
