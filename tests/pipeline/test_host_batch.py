"""Decoded images on their way to the device."""

import pytest
import torch

from pipeline.host_batch import HostBatch

SLOTS = torch.arange(8 * 2 * 2 * 3, dtype=torch.uint8).reshape(8, 2, 2, 3)


def batch(first: int, count: int) -> HostBatch:
    return HostBatch(first, SLOTS[first : first + count])


@pytest.mark.parametrize(
    "pixels",
    [
        torch.zeros(1, 2, 2, 3),
        torch.zeros(2, 2, 3, dtype=torch.uint8),
        torch.zeros(1, 3, 2, 2, dtype=torch.uint8),
        torch.zeros(1, 2, 2, 3, dtype=torch.int8),
    ],
    ids=["float", "one image", "channels first", "signed"],
)
def test_a_batch_of_another_shape_is_refused(pixels: torch.Tensor) -> None:
    """The message names what was expected and what came."""
    with pytest.raises(ValueError, match=r"must be uint8 \[n, height, width, 3\], not torch\.") as raised:
        HostBatch(0, pixels)
    assert str(raised.value).endswith(f"{pixels.dtype} {[*pixels.shape]}")


def test_an_empty_batch_is_a_batch() -> None:
    assert len(batch(3, 0)) == 0


def test_batches_adjoin_only_in_their_order() -> None:
    assert batch(1, 2).adjoins(batch(3, 1))
    assert not batch(3, 1).adjoins(batch(1, 2))
    assert not batch(1, 2).adjoins(batch(4, 1))
    assert not batch(1, 2).adjoins(batch(1, 2))


def test_joined_batches_are_one_view_of_the_same_memory() -> None:
    """Also of batches that were joined before, and of those that do not begin at the first slot."""
    joined = batch(2, 1).joined(batch(3, 2)).joined(batch(5, 3))
    assert joined.first == 2
    assert joined.pixels.equal(SLOTS[2:8])
    assert joined.pixels.data_ptr() == SLOTS[2].data_ptr()
