"""Tests of request bodies."""

from email import message_from_bytes
from email.message import Message

import pytest

from harness.target import Form
from tuning import bodies as module
from tuning.bodies import bodies

IMAGES = [b"one", b"two\r\n--", b"three"]


def _parts(form: Form) -> list[bytes]:
    """Return the parts of a form, as any MIME reader sees them."""
    whole = message_from_bytes(f"Content-Type: {form.content_type}\r\n\r\n".encode() + form.body)
    parts: list[Message] = whole.get_payload()  # type: ignore[assignment]  # a list, as it is multipart
    return [part.get_payload(decode=True) for part in parts]  # type: ignore[misc]  # bytes, as these are not


def test_one_image_is_the_body() -> None:
    assert [form.body for form in bodies(IMAGES, 1)] == IMAGES


@pytest.mark.parametrize("images_per_request", [2, 3, 7])
def test_several_are_parts_of_a_form(images_per_request: int) -> None:
    """Several images are parts of a form, and each image comes equally often."""
    forms = bodies(IMAGES, images_per_request)
    parts = [part for form in forms for part in _parts(form)]
    assert all(len(_parts(form)) == images_per_request for form in forms)
    assert {parts.count(image) for image in IMAGES} == {images_per_request}


def test_bodies_take_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """With many large images in a request there are fewer bodies than images, to save memory."""
    monkeypatch.setattr(module, "MAX_BODIES_BYTES", 100)
    assert len(bodies([bytes(60)] * 9, 2)) == 1
