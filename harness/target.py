"""The address for images, and request bodies with images."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Form:
    """Body of a request, with its content type."""

    content_type: str
    body: bytes


def image_body(image: bytes) -> Form:
    """Make a body that is one image, unchanged."""
    return Form("application/octet-stream", image)


def form_body(images: list[bytes], field: str = "image") -> Form:
    """Make a multipart body of many images, one part each."""
    boundary = "b0undary-of-the-f4ults"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="image"\r\n\r\n'.encode()
    body = b"".join(head + image + b"\r\n" for image in images) + f"--{boundary}--\r\n".encode()
    return Form(f"multipart/form-data; boundary={boundary}", body)


@dataclass(frozen=True, slots=True)
class Target:
    """The address of a service, and a function that makes its request bodies."""

    host: str
    port: int
    path: str
    wrap: Callable[[bytes], Form]

    @property
    def url(self) -> str:
        """URL for requests."""
        return f"http://{self.host}:{self.port}{self.path}"
