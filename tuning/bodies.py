"""Request bodies of a sample of images: one image each, or some together in a form."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Final

from harness.target import Form

MAX_BODIES_BYTES: Final = 256 << 20
"""Limit on bytes of all bodies together; with many images a request there are fewer bodies than images."""

_BOUNDARY: Final = "darkroom-tune-7MA4YWxkTrZu0gW"


def bodies(images: Sequence[bytes], images_per_request: int) -> list[Form]:
    """Make request bodies in which all images occur about equally often.

    Args:
        images: encoded images, at least one.
        images_per_request: images in one request.
    """
    if images_per_request == 1:
        return [Form("application/octet-stream", image) for image in images]
    turn, forms, size = itertools.cycle(images), list[Form](), 0
    for _ in images:
        body = _multipart([next(turn) for _ in range(images_per_request)])
        forms.append(Form(f"multipart/form-data; boundary={_BOUNDARY}", body))
        size += len(body)
        if size > MAX_BODIES_BYTES:
            break
    return forms


def _multipart(images: Sequence[bytes]) -> bytes:
    return b"".join([*itertools.chain.from_iterable(map(_part, itertools.count(), images)), _closing()])


def _part(number: int, image: bytes) -> Iterator[bytes]:
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="{number}"\r\n'
    yield f"{head}Content-Type: application/octet-stream\r\n\r\n".encode()
    yield image
    yield b"\r\n"


def _closing() -> bytes:
    return f"--{_BOUNDARY}--\r\n".encode()
