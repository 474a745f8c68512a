"""Tests of the records from a worker: they are data, and reading them runs no code in the replica."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch._utils import ExceptionWrapper
from torch.utils.data._utils.worker import _IterableDatasetStopIteration

from pipeline import errors
from pipeline.decode.messages import (
    MAX_RECORD_BYTES,
    MAX_TEXT_BYTES,
    DecodedPixels,
    DecodeResult,
    MalformedRecord,
    WorkerFault,
    WorkerReady,
    from_bytes,
    to_bytes,
)
from pipeline.decode.sandbox import ALL_CLOSED, Closed
from pipeline.decode.slots import Slots
from pipeline.errors import ImageError, TransformFailed, UndecodableImage
from pipeline.input_spec import InputSpec

IMAGE_ERRORS = [
    cls
    for cls in vars(errors).values()
    if isinstance(cls, type) and issubclass(cls, ImageError) and cls is not errors.HeadFailed  # its message is fixed
]

SLOTS = Slots(8, InputSpec.of_pixels(16))


@pytest.fixture(scope="module")
def slots() -> Slots:
    return SLOTS


def _through(item: object, slots: Slots) -> object:
    return from_bytes(to_bytes(item), slots)


# ---- records --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", IMAGE_ERRORS)
def test_errors_arrive_with_class_and_message(cls: type[ImageError], slots: Slots) -> None:
    chunk = _through(DecodeResult(3, 2, {1: cls("torn at byte 7, größer")}, frozenset({0, 4})), slots)
    assert isinstance(chunk, DecodedPixels)
    assert (chunk.first, len(chunk.pixels), chunk.skipped) == (3, 2, frozenset({0, 4}))
    assert chunk.pixels.data_ptr() == slots.tensor[3].data_ptr()
    assert [(position, type(error), str(error)) for position, error in chunk.errors.items()] == [
        (1, cls, "torn at byte 7, größer")
    ]


def test_messages_are_short_and_move_no_cursor(slots: Slots) -> None:
    """Error messages are short and have no control characters, because they quote image bytes and go to terminals.

    A cut splits no character.
    """
    chunk = _through(DecodeResult(0, 0, {0: UndecodableImage("a\x1b[2J\nb\r" + "ü" * 1000)}), slots)
    assert isinstance(chunk, DecodedPixels)
    text = str(chunk.errors[0])
    assert text.startswith("a�[2J�b�üü")
    assert text.endswith("ü")
    assert MAX_TEXT_BYTES - 10 <= len(text.replace("�", "x").encode()) <= MAX_TEXT_BYTES


def test_a_traceback_of_users_code_arrives_line_by_line(slots: Slots) -> None:
    """The message and the traceback behind it arrive apart; neither moves a cursor, and many of them fit."""
    sent = TransformFailed("it\nfails", 'File "a.py"\x1b[2J\n  raise')
    found = _through(DecodeResult(0, 0, {0: sent, 1: UndecodableImage("torn")}), slots)
    assert isinstance(found, DecodedPixels)
    first = found.errors[0]
    assert isinstance(first, TransformFailed)
    assert (str(first), first.trace) == ("it fails", 'File "a.py"\ufffd[2J\n  raise')
    many = _through(DecodeResult(0, 0, {n: TransformFailed("fails", "line\n" * 900) for n in range(500)}), slots)
    assert isinstance(many, DecodedPixels)
    assert {str(error) for error in many.errors.values()} == {"fails"}


def test_a_chunk_of_many_errors_fits_into_a_record(slots: Slots) -> None:
    """Many errors of one chunk fit into a record: each keeps its class and the beginning of its message."""
    record = to_bytes(DecodeResult(0, 0, {n: UndecodableImage("damaged" * 90) for n in range(1000)}))
    assert len(record) <= MAX_RECORD_BYTES
    chunk = from_bytes(record, slots)
    assert isinstance(chunk, DecodedPixels)
    assert {str(error)[:14] for error in chunk.errors.values()} == {"damageddamaged"}
    assert len(chunk.errors) == 1000


def test_what_else_dataloader_sends_arrives(slots: Slots) -> None:
    assert _through(WorkerReady(Closed.FILES), slots) == WorkerReady(Closed.FILES)
    assert isinstance(_through(_IterableDatasetStopIteration(0), slots), _IterableDatasetStopIteration)
    try:
        raise ValueError("a fault\x1b of the worker's own")
    except ValueError:
        fault = _through(ExceptionWrapper(), slots)  # type: ignore[no-untyped-call]
    assert isinstance(fault, WorkerFault)
    assert fault.text.splitlines()[-1] == "ValueError: a fault� of the worker's own"
    with pytest.raises(TypeError, match="a worker cannot send a dict"):
        to_bytes({})


GOOD = to_bytes(DecodeResult(0, 1, {1: UndecodableImage("torn"), 2: UndecodableImage("")}, frozenset({3})))


CHANGED = st.builds(
    lambda a, b, c: GOOD[:a] + b + GOOD[c:], st.integers(0, 50), st.binary(max_size=9), st.integers(0, 50)
)


@given(st.one_of(st.binary(max_size=80), CHANGED))
def test_bytes_are_a_record_or_refused(data: bytes) -> None:
    """Any bytes are read as a record or refused, without any other effect."""
    try:
        record = from_bytes(data, SLOTS)
    except MalformedRecord:
        return
    if isinstance(record, DecodedPixels):
        assert all(type(error) in IMAGE_ERRORS and str(error).isprintable() for error in record.errors.values())
    else:
        assert isinstance(record, WorkerReady | WorkerFault | _IterableDatasetStopIteration)


@pytest.mark.parametrize("tail", [b"\0", b"\0" * 7, GOOD])
def test_bytes_behind_a_record_are_refused(tail: bytes, slots: Slots) -> None:
    for record in (GOOD, to_bytes(WorkerReady(ALL_CLOSED))):
        with pytest.raises(MalformedRecord):
            from_bytes(record + tail, slots)
