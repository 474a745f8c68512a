"""Bodies that are given to their reader in pieces of any size."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from deployments.http.body import BodyReader
from pipeline.errors import ClientError
from pipeline.records import EncodedImage, Rejection


def in_pieces(body: bytes, cuts: Sequence[int]) -> Iterator[bytes]:
    """Yield the body, split at these places."""
    at = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    return (body[start:end] for start, end in pairwise(at))


def every(size: int, body: bytes) -> Iterator[bytes]:
    """Yield the body in pieces of one size."""
    return (body[start : start + size] for start in range(0, len(body), size))


def images_in(reader: BodyReader, pieces: Iterator[bytes]) -> list[bytes | str]:
    """Return the bytes of each image, or the reason for which it has none."""
    for piece in pieces:
        reader.write(piece)
    return [content_of(image) for image in reader.finish()]


def content_of(image: EncodedImage | Rejection) -> bytes | str:
    """Return the bytes of an image, or the reason for which it has none."""
    return b"".join(image.pieces) if isinstance(image, EncodedImage) else str(image.error)


def outcome_of(reader: BodyReader, pieces: Iterator[bytes]) -> list[bytes | str] | type[ClientError]:
    """Return the images, or the class of the refusal; any other error is a fault of the reader."""
    try:
        return images_in(reader, pieces)
    except ClientError as error:
        return type(error)
