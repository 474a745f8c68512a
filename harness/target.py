"""The address that images are sent to, and the bodies that carry them."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Form:
    """A request's body."""

    content_type: str
    body: bytes


def image_body(image: bytes) -> Form:
    """A body that is one image, as it is."""
    return Form("application/octet-stream", image)


def form_body(images: list[bytes], field: str = "image") -> Form:
    """A multipart body of many images, a part each."""
    boundary = "b0undary-of-the-f4ults"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="image"\r\n\r\n'.encode()
    body = b"".join(head + image + b"\r\n" for image in images) + f"--{boundary}--\r\n".encode()
    return Form(f"multipart/form-data; boundary={boundary}", body)


@dataclass(frozen=True, slots=True)
class Target:
    """The address of a service, and the form of the bodies that it takes."""

    host: str
    port: int
    path: str
    wrap: Callable[[bytes], Form]

    @property
    def url(self) -> str:
        """Address that the requests go to."""
        return f"http://{self.host}:{self.port}{self.path}"
