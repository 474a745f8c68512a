"""Encodes the results of a worker as records of bytes, which the replica reads without trusting them.

A worker decodes untrusted files, and a file that takes it over may send any bytes. Unpickling those would run their
code in the replica, with access to its keys. Reading a record only builds integers, bounded text, and errors of known
classes.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from torch import Tensor
from torch._utils import ExceptionWrapper
from torch.utils.data._utils.worker import _IterableDatasetStopIteration

from pipeline.decode.sandbox import ALL_CLOSED, Closed
from pipeline.decode.slots import Slots
from pipeline.errors import ImageError, TransformFailed

MAX_RECORD_BYTES: Final = 64 << 10
"""Largest size of a record; a socket's buffer holds 208 KiB by default."""

MAX_TEXT_BYTES: Final = 400
"""Largest size of an image's error message; smaller if a chunk has hundreds of errors."""

_MAX_FAULT_BYTES: Final = 4000

_HEAD_STRUCT: Final = struct.Struct("<BIIII")  # kind, first slot, images decoded, errors and skipped images that follow
_ERROR_STRUCT: Final = struct.Struct("<IBH")  # position in the chunk, class, bytes of text that follow
_SKIPPED_STRUCT: Final = struct.Struct("<I")  # position in the chunk

_READY_KIND, _CHUNK_KIND, _STOPPED_KIND, _FAULT_KIND = range(1, 5)

_EMPTY_RECORDS: Final = {kind: _HEAD_STRUCT.pack(kind, 0, 0, 0, 0) for kind in (_STOPPED_KIND, _FAULT_KIND)}
"""Records without content."""


class MalformedRecord(Exception):
    """A worker has sent invalid bytes, so none of its further records are trusted."""


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """First record of a worker: it has imported everything, has entered its sandbox, and waits for jobs."""

    closed: Closed


@dataclass(frozen=True, slots=True)
class DecodedPixels:
    """Result of a job in the replica, with its pixels, page-locked where there is CUDA."""

    first: int
    pixels: Tensor  # [n, *shape], a view of the slots, page-locked where there is CUDA; see `Slots.spec`
    errors: Mapping[int, ImageError]  # as in `DecodeResult`
    skipped: frozenset[int]


@dataclass(frozen=True, slots=True)
class DecodeResult:
    """Result of a job, as a worker sends it. The pixels stay in shared memory."""

    first: int
    decoded: int  # good images; their pixels are the first of the job's slots, in order and without gaps
    errors: Mapping[int, ImageError] = field(default_factory=dict)  # by position in the job
    skipped: frozenset[int] = frozenset()  # positions in the job that had been withdrawn


@dataclass(frozen=True, slots=True)
class WorkerFault:
    """Traceback, as text, of an error in the worker's own code, which ends the worker."""

    text: str


Record = WorkerReady | DecodedPixels | WorkerFault | _IterableDatasetStopIteration


def _classes(base: type[ImageError] = ImageError) -> Iterator[type[ImageError]]:
    """Yield the classes of image errors that the pipeline defines; workers send no others."""
    yield base
    for derived in base.__subclasses__():
        if derived.__module__ == base.__module__:
            yield from _classes(derived)


_ERROR_CLASSES: Final = tuple(sorted({*_classes()}, key=lambda error: error.__name__))
_ERROR_CODES: Final = {error: code for code, error in enumerate(_ERROR_CLASSES)}


def to_bytes(item: object) -> bytes:
    """Encode an item that a worker's DataLoader loop yields.

    Raises:
        TypeError: there is no record for items of this type.
    """
    match item:
        case DecodeResult():
            return _chunk_to_bytes(item)
        case WorkerReady():
            return _HEAD_STRUCT.pack(_READY_KIND, item.closed, 0, 0, 0)
        case _IterableDatasetStopIteration():
            return _EMPTY_RECORDS[_STOPPED_KIND]
        case ExceptionWrapper():
            text = str(item.exc_msg).encode(errors="replace")  # the end of a traceback tells the error
            return _EMPTY_RECORDS[_FAULT_KIND] + text[-_MAX_FAULT_BYTES:]
    raise TypeError(f"a worker cannot send a {type(item).__name__}")


def _chunk_to_bytes(chunk: DecodeResult) -> bytes:
    text_bytes = MAX_RECORD_BYTES - _HEAD_STRUCT.size - len(chunk.skipped) * _SKIPPED_STRUCT.size
    most = min(MAX_TEXT_BYTES, text_bytes // max(1, len(chunk.errors)) - _ERROR_STRUCT.size)
    parts = [_HEAD_STRUCT.pack(_CHUNK_KIND, chunk.first, chunk.decoded, len(chunk.errors), len(chunk.skipped))]
    for position, error in chunk.errors.items():
        text = _cut(str(error).encode(errors="replace"), most)
        if isinstance(error, TransformFailed) and error.trace:
            text = _with_trace(text, error.trace, text_bytes // len(chunk.errors) - _ERROR_STRUCT.size)
        parts += _ERROR_STRUCT.pack(position, _ERROR_CODES[type(error)], len(text)), text
    parts += map(_SKIPPED_STRUCT.pack, chunk.skipped)
    return b"".join(parts)


def _with_trace(text: bytes, trace: str, most: int) -> bytes:
    """Append the end of a traceback to a message, behind the end of its line; the whole has at most `most` bytes."""
    kept = min(_MAX_FAULT_BYTES, most - len(text) - 1)
    return text.replace(b"\n", b" ") + b"\n" + trace.encode(errors="replace")[-kept:] if kept > 0 else text


def _cut(text: bytes, most: int) -> bytes:
    """Cut UTF-8 text to at most `most` bytes, without half a character at the end."""
    return text[:most].decode(errors="ignore").encode()


def from_bytes(data: bytes, slots: Slots) -> Record:
    """Read a record of a worker that decodes into `slots`.

    The caller must check that the worker holds the chunk in the record.

    Raises:
        MalformedRecord: the bytes are not a valid record.
    """
    try:
        kind, first, decoded, errors, skipped = _HEAD_STRUCT.unpack_from(data)
        body = data[_HEAD_STRUCT.size :]
        if kind == _CHUNK_KIND:
            ends = len(body) - skipped * _SKIPPED_STRUCT.size
            if ends < 0:
                raise MalformedRecord(f"a decoder process sent {len(body)} bytes for {skipped} skipped images")
            positions = frozenset(position for (position,) in _SKIPPED_STRUCT.iter_unpack(body[ends:]))
            pixels = slots.tensor[first : first + decoded]
            return DecodedPixels(first, pixels, dict(_errors(body[:ends], errors)), positions)
        if kind == _FAULT_KIND:
            return WorkerFault(_lines(body[:_MAX_FAULT_BYTES]))
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise MalformedRecord(f"a decoder process sent {len(data)} bytes that are not a record: {error!r}") from error
    if kind == _READY_KIND and first <= ALL_CLOSED and not (decoded or errors or skipped or body):
        return WorkerReady(Closed(first))
    if data == _EMPTY_RECORDS[_STOPPED_KIND]:
        return _IterableDatasetStopIteration(0)  # number of the worker: each DataLoader here has only one
    raise MalformedRecord(f"a decoder process sent a record of {len(data)} bytes and of unknown kind {kind}")


def _errors(body: bytes, count: int) -> Iterator[tuple[int, ImageError]]:
    at = 0
    for _ in range(count):
        position, code, size = _ERROR_STRUCT.unpack_from(body, at)
        at += _ERROR_STRUCT.size
        text = body[at : at + size]
        at += size
        kind = _ERROR_CLASSES[code]
        trace = b""
        if kind is TransformFailed:
            text, _, trace = text.partition(b"\n")
        if len(text) > MAX_TEXT_BYTES or len(trace) > _MAX_FAULT_BYTES or at > len(body):
            raise MalformedRecord(f"a decoder process sent an error message of {size} bytes; it has {len(text)}")
        message = _printable(text.decode())
        yield position, TransformFailed(message, _lines(trace)) if kind is TransformFailed else kind(message)
    if at != len(body):
        raise MalformedRecord(f"a decoder process sent {len(body) - at} bytes behind the end of a record")


def _lines(text: bytes) -> str:
    """Decode text of several lines, each of them printable."""
    return "\n".join(map(_printable, text.decode(errors="replace").split("\n")))


def _printable(text: str) -> str:
    """Replace unprintable characters, which could end a line of the log or move a terminal's cursor."""
    return "".join(character if character.isprintable() else "�" for character in text)
