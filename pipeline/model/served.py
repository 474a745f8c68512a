"""Interface for serving your own model: a module, its transform, and a head that reads the module's output."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from PIL import Image
from torch import Tensor, nn

from pipeline.config import PipelineConfig
from pipeline.errors import InvalidModel
from pipeline.head_parameters import Parameter
from pipeline.images.geometry import Geometry
from pipeline.input_spec import InputSpec
from pipeline.model.resize_to_fit import Fit
from pipeline.records import Transform

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Preprocess:
    """The usual four steps before a model: resize, crop the centre, scale to 0..1, normalise.

    Decoder processes do the first two steps. Pixels stay uint8 until they are on the device, which does the other two.
    """

    resize_px: int  # the shorter side, or both sides with `squash`
    crop_px: int
    interpolation: str = "bilinear"  # a name of PIL.Image.Resampling, in lower case
    mean: tuple[float, ...] = IMAGENET_MEAN  # of red, green and blue in 0..1
    std: tuple[float, ...] = IMAGENET_STD
    squash: bool = False  # makes a square of every image, and so changes its proportions

    def __str__(self) -> str:
        """Describe all settings in one line."""
        resize = f"resize_px {self.resize_px}{' on both sides' if self.squash else ''}"
        return f"{resize}, crop_px {self.crop_px}, {self.interpolation}, mean {[*self.mean]}, std {[*self.std]}"

    @property
    def input_spec(self) -> InputSpec:
        """Shape and number format of the pixels that the decoder processes make: uint8 [crop_px, crop_px, 3]."""
        return InputSpec.of_pixels(self.crop_px)

    def in_workers(self, config: PipelineConfig) -> Transform:
        """Return the steps of the decoder processes, with the configuration's decode mode, formats and background."""
        sizes = self.resize_px, self.crop_px, self.interpolation
        return Transform(*sizes, config.decode, config.formats, config.background, self.squash)


class Head(ABC):
    """Reads the output of a module: on the device for a whole batch, then on the host for each image.

    Attributes:
        labels: names of the model's classes; empty if it has none.
        parameters: what a request may send with its images, by name. The methods of the head's results and `columns`
            get the values by name.
        schema: JSON Schema of a result's JSON, an object, for the description of the service.
    """

    labels: Sequence[str] = ()
    parameters: Mapping[str, Parameter] = MappingProxyType({})
    schema: Mapping[str, Any] = MappingProxyType({"type": "object"})

    def check(self, outputs: Any, images: int) -> None:  # noqa: B027 - a head of one's own may do without
        """Check, once at the start, that the head fits the module; by default every output does.

        Args:
            outputs: return value of the module.
            images: number of images in the batch.

        Raises:
            ValueError: the head cannot read such an output; the message has its shape and says what to do.
        """

    @abstractmethod
    def on_device(self, outputs: Any) -> dict[str, Tensor]:
        """Reduce the output of the module to the tensors that the host needs; becomes part of the module's graph.

        Args:
            outputs: return value of the module for a batch of n images.

        Returns:
            Tensors of n rows by name, the same names each time. An image whose floats are not all finite is rejected.
        """

    @abstractmethod
    def results(self, rows: Mapping[str, Tensor], geometry: Sequence[Geometry]) -> list[Any]:
        """Make the results of a batch.

        Args:
            rows: the tensors from `on_device`, in host memory.
            geometry: one for each image.

        Returns:
            One result an image, in order: a `Result`, or a mapping that can be written as JSON.
        """

    def columns(self, *args: Any, **parameters: Any) -> Sequence[str]:  # noqa: ARG002 - other heads need them
        """Return the names of the columns of CSV between the file's name and its error, by the head's parameters.

        `Result.cells` has a cell for each.
        """
        return ("result",)


@dataclass(frozen=True)
class ServedModel:
    """A model with all that is needed to serve it.

    Attributes:
        module: float [n, 3, crop_px, crop_px], normalised, or [n, *shape] of what the transform returns -> input of the
            head. The module is put into evaluation mode and into the number format in which it is served. With a `Fit`
            it gets a list of images instead.
        transform: preparation of the images. A callable gets an upright RGB picture, and returns a tensor or a numpy
            array of one shape and number format; it runs in the decoder processes, sent there by cloudpickle.
        head: turns the output of the module into results.
        weights_from: source of the weights, as text for the log.
        transform_from: source of the transform, as text for the log.
        transform_is_assumed: whether the transform is an assumption, as the weights do not include theirs.
    """

    module: nn.Module
    transform: Preprocess | Fit | Callable[[Image.Image], Any]
    head: Head
    weights_from: str = "the caller"
    transform_from: str = "the caller"
    transform_is_assumed: bool = False

    @property
    def preprocess(self) -> Preprocess:
        """The usual four steps, for measurements that need images of one size.

        Raises:
            InvalidModel: the model has another transform.
        """
        if not isinstance(self.transform, Preprocess):
            raise InvalidModel("this measures models whose images have one size; this model's images differ in size")
        return self.transform
