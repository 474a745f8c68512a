"""Tests of the slots: memory that the replica and its decoders share."""

import gc
import os
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.bounds import MAX_ENCODED_BYTES
from pipeline.decode.slots import Claim, Slots
from pipeline.input_spec import InputSpec
from pipeline.model.agreement import noise
from tests.support.waiting import PATIENCE_S

SHM = Path("/dev/shm")  # noqa: S108 - the folder of named shared memory


def named_maps() -> set[str]:
    """Return the files in /dev/shm that this process has mapped."""
    return {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if f"{SHM}/" in line}


@pytest.fixture
def slots() -> Slots:
    return Slots(8, InputSpec.of_pixels(16))


def memfds() -> dict[int, int]:
    """Return the memory behind this process's slots: allocated bytes, by inode."""
    links = [Path("/proc/self/fd", fd) for fd in os.listdir("/proc/self/fd")]
    ours = [link for link in links if link.is_symlink() and "memfd:darkroom" in os.readlink(link)]
    return {link.stat().st_ino: link.stat().st_blocks * 512 for link in ours}


# ---- which are free -------------------------------------------------------------------------------------------------


def test_slots_are_taken_side_by_side(slots: Slots) -> None:
    assert [slots.take(3), slots.take(2), slots.take(3)] == [(0, 3), (3, 2), (5, 3)]
    assert slots.free == 0


def test_where_none_is_free_none_is_taken(slots: Slots) -> None:
    slots.take(8)
    assert slots.take(1) == (0, 0)
    slots.release(0, 0)
    assert slots.free == 0


def test_what_is_released_is_taken_again(slots: Slots) -> None:
    slots.take(8)
    slots.release(5, 2)
    assert slots.free == 2
    assert slots.take(2) == (5, 2)


def test_fewer_are_taken_where_gaps_are_small(slots: Slots) -> None:
    """Fewer slots are taken if no gap is large enough: half of the number asked for, and half again."""
    slots.take(8)
    for first in (0, 3, 6):
        slots.release(first, 2)
    assert slots.free == 6
    assert slots.take(6) == (0, 1)
    assert slots.take(4) == (3, 2)


def test_a_gap_between_released_slots_closes(slots: Slots) -> None:
    slots.take(8)
    for first, count in ((2, 1), (4, 1), (3, 1)):
        slots.release(first, count)
    assert slots.take(3) == (2, 3)


def test_slots_just_taken_wait() -> None:
    """Slots that were just taken are marked as waiting. A claim of their last user is not blamed on the next image."""
    slots = Slots(2, InputSpec.of_pixels(4))
    slots.claims[:] = Claim.STARTED
    slots.take(1)
    assert slots.claims.tolist() == [Claim.WAITING, Claim.STARTED]


# ---- what lies in them ----------------------------------------------------------------------------------------------


def test_slots_do_not_overlap() -> None:
    """Every slot keeps its claim, times, pixels and encoded bytes while all others are written."""
    slots = Slots(3, InputSpec.of_pixels(5))
    for slot in range(3):
        slots.decode_ns[slot], slots.claims[slot], slots.pixels[slot] = 10**12 + slot, slot, 100 + slot
        slots.write_encoded(slot, bytes([200 + slot]) * 5000)
    for slot in range(3):
        assert slots.decode_ns[slot] == 10**12 + slot
        assert slots.claims[slot] == slot
        assert np.all(slots.pixels[slot] == 100 + slot)
        assert bytes(slots.read_encoded(slot, 5000)) == bytes([200 + slot]) * 5000


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_a_slot_has_space_for_an_input_of_any_shape_and_format(dtype: torch.dtype) -> None:
    """Inputs of any shape and number format lie side by side, and no encoded image overlaps the last."""
    spec = InputSpec((2, 3, 5), dtype)
    slots, inputs = Slots(3, spec), noise(3, spec, seed=1)
    for slot in range(3):
        slots.tensor[slot] = inputs[slot]
        slots.write_encoded(slot, b"\1" * 5000)
    assert slots.tensor.dtype == dtype
    assert slots.tensor.equal(inputs)
    assert str(spec) == f"{str(dtype).partition('.')[2]} [2, 3, 5]"


def test_an_image_is_written_piece_by_piece() -> None:
    """An image is written from the pieces in which it arrived: bytes, and views of them."""
    slots = Slots(2, InputSpec.of_pixels(5))
    slots.write_encoded(1, b"one", memoryview(b"and two")[3:], bytearray(b" and three"))
    assert bytes(slots.read_encoded(1, 17)) == b"one two and three"


def test_the_largest_image_has_room_in_the_last_slot() -> None:
    slots = Slots(2, InputSpec.of_pixels(4))
    slots.write_encoded(1, b"\1" * MAX_ENCODED_BYTES)
    assert slots.read_encoded(1, MAX_ENCODED_BYTES)[-1] == 1
    assert slots.read_encoded(0, 1)[0] == 0


def test_a_tensor_of_slots_is_a_view(slots: Slots) -> None:
    """A tensor of slots is a view: pixels that a worker writes later are seen in it, without a copy."""
    pixels = slots.tensor[2:5]
    slots.pixels[2:5] = 7
    assert pixels.shape == (3, 16, 16, 3)
    assert bool((pixels == 7).all())
    assert pixels.data_ptr() == slots.tensor[2].data_ptr()


SIZES = (0, 1 << 40)


def _truncate(fd: int, size: int) -> str:
    try:
        os.ftruncate(fd, size)
    except OSError as error:
        return type(error).__name__
    return "done"


def answer_from_there(slots: Slots, pipe: Connection) -> None:
    """Report the bytes in slot 1, try to change the size, and write back; runs in another process."""
    pipe.send((bytes(slots.read_encoded(1, 5)), [_truncate(slots._fd, size) for size in SIZES]))
    slots.pixels[1], slots.claims[1], slots.decode_ns[1] = 42, Claim.DECODED, 123


def test_another_process_sees_the_same_memory(slots: Slots) -> None:
    """Slots that are pickled to a new process share their memory both ways.

    The process cannot shrink it, which would end the replica.
    """
    slots.write_encoded(1, b"hello")
    context = get_context("forkserver")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=answer_from_there, args=(slots, there))
    process.start()
    assert here.poll(PATIENCE_S)
    assert here.recv() == (b"hello", ["PermissionError"] * len(SIZES))
    process.join(PATIENCE_S)
    assert process.exitcode == 0
    assert (slots.claims[1], slots.decode_ns[1]) == (Claim.DECODED, 123)
    assert np.all(slots.pixels[1] == 42)
    assert not slots.pixels[0].any()


# ---- what they cost -------------------------------------------------------------------------------------------------


def test_slots_take_memory_only_where_they_are_used() -> None:
    before = memfds()
    slots = Slots(8192, InputSpec.of_pixels(224))
    (inode,) = memfds().keys() - before.keys()
    assert memfds()[inode] == 0
    slots.write_encoded(8191, b"\1" * 8192)
    assert memfds()[inode] == 8192


def test_encoded_images_leave_no_more_behind_than_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """After large encoded images only a bounded part of their memory stays allocated.

    The rest goes back to the system.
    """
    monkeypatch.setattr("pipeline.decode.slots.MAX_KEPT_BYTES", 1 << 20)
    before = memfds()
    slots = Slots(4, InputSpec.of_pixels(4))
    (inode,) = memfds().keys() - before.keys()

    def pass_through(slot: int, size: int) -> int:
        slots.write_encoded(slot, b"\1" * size)
        slots.trim_encoded(slot, size)
        return memfds()[inode]

    assert pass_through(0, 700_000) == pass_through(0, 5) >= 700_000  # a smaller image changes nothing
    assert pass_through(1, MAX_ENCODED_BYTES) <= 700_000 + 2 * 4096
    assert slots.read_encoded(0, 1)[0] == 1
    assert slots.read_encoded(1, 1)[0] == 0
    assert pass_through(2, 340_000) >= 1_040_000
    assert pass_through(1, 20_000) <= 1_040_000 + 3 * 4096
    assert pass_through(0, 800_000) <= 340_000 + 4 * 4096
    assert pass_through(3, 700_000) >= 1_040_000


def test_slots_leave_nothing_behind() -> None:
    """Slots have no name in /dev/shm while they live, and leave no descriptor and no memory once they are dropped."""
    names, before = named_maps(), memfds()
    slots = Slots(4, InputSpec.of_pixels(8))
    slots.pixels[:] = 1
    assert named_maps() <= names
    (inode,) = memfds().keys() - before.keys()
    del slots
    gc.collect()
    assert inode not in memfds()
