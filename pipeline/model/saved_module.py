"""A network that was saved in a file together with its graph, as opposed to weights for a network built in Python."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from pipeline.errors import InvalidModel


@dataclass(frozen=True, slots=True)
class BatchSizes:
    """Numbers of images that a network accepts at once."""

    least: int = 1
    most: int | None = None  # None: any

    def __str__(self) -> str:
        """Describe the sizes, followed by "images"."""
        if self.least == self.most:
            return f"exactly {self.least}"
        return f"{self.least} to {self.most}" if self.most else f"{self.least} or more"


ANY_BATCH: Final = BatchSizes()


class SavedModule(nn.Module):
    """Runs a saved network as it was saved: in its own number format, and in batches of the sizes that it accepts.

    Larger batches are computed in pieces; smaller ones are filled up with black images, whose outputs are dropped.

    Args:
        network: [n, 3, side, side] in `dtype`, contiguous -> a tensor, or a tuple or dict of tensors, of n rows.
        kind: kind of the file, for messages, e.g. "a TorchScript file".
        sizes: sizes of batches that the network accepts.
        side_px: side of the images that it accepts; None if the file does not say.
        dtype: number format of its input.
        of_bytes: whether the network takes pixels of 0..255 and normalises them itself.
        computed_as: how the network is computed, as text; None if torch may trace it.
    """

    def __init__(
        self,
        network: nn.Module,
        kind: str,
        *,
        sizes: BatchSizes = ANY_BATCH,
        side_px: int | None = None,
        dtype: torch.dtype = torch.float32,
        of_bytes: bool = False,
        computed_as: str | None = None,
    ) -> None:
        super().__init__()
        self.network, self.kind, self.sizes, self.side_px = network, kind, sizes, side_px
        self.dtype, self.of_bytes = dtype, of_bytes
        self._computed_as = computed_as
        self.output: str | int | None = None  # the one output that is used; None for all

    @property
    def computed_as(self) -> str | None:
        """Description of how the network is computed; None if torch may trace it and convert it."""
        if self._computed_as or self.sizes == ANY_BATCH:
            return self._computed_as
        return f"{self.kind}, {self.sizes} images at a time"

    def forward(self, images: Tensor) -> Any:
        """Compute the outputs of a batch of any size; images are [n, 3, side, side]."""
        images = images.contiguous()  # as when the network was saved: a saved `view` fails on channels_last
        if self.sizes == ANY_BATCH:  # nothing may depend on the number of images, which a trace would keep
            return self._computed(images)
        pieces = images.split(self.sizes.most or len(images))  # type: ignore[no-untyped-call]
        outputs = [self._filled_up(piece) for piece in pieces]
        return outputs[0] if len(outputs) == 1 else pytree.tree_map(lambda *each: torch.cat(each), *outputs)

    def _filled_up(self, images: Tensor) -> Any:
        count, least = len(images), self.sizes.least
        if count >= least:
            return self._computed(images)
        outputs = self._computed(torch.cat([images, images.new_zeros(least - count, *images.shape[1:])]))
        return pytree.tree_map(lambda rows: rows[:count], outputs)

    def _computed(self, images: Tensor) -> Any:
        outputs = self.network(images)
        return outputs if self.output is None else outputs[self.output]

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        """Return a copy that shares the network: nothing changes it, and copies of large ones take memory."""
        other = copy.copy(self)
        other._modules = dict(self._modules)
        return other

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002 - a saved network has no other mode
        """Do nothing: what training would change was fixed when the network was saved."""
        return self

    def to(self, *_args: Any, **_settings: Any) -> Self:
        """Do nothing: number format and memory layout were fixed when the network was saved. `cuda` moves it."""
        return self


def side_of(sizes: Sequence[int | None], named: str) -> int | None:
    """Return the side of the square images that a network accepts; None if it accepts any.

    Args:
        sizes: channels, height and width; None for any.
        named: name of the model, for messages.

    Raises:
        InvalidModel: the images are not square, or not of three channels.
    """
    channels, height, width = sizes
    if channels not in (3, None):
        raise InvalidModel(f"{named} takes images of {channels} channels; Darkroom has three, red, green and blue")
    if height and width and height != width:
        raise InvalidModel(
            f"{named} takes images of {width} x {height} pixels, which are not square; write a function that returns "
            "the model with a transform of its own, as model: my_module:build"
        )
    return height or width
