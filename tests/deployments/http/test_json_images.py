"""Tests of images in a JSON body: any JSON text, in pieces of any size."""

import base64
import gc
import json
import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.http.json_images import JsonImages
from deployments.request_errors import MalformedRequest, TooManyImages
from pipeline.errors import ClientError
from tests.support.pushed import every, images_in, in_pieces, outcome_of

MAX_IMAGES = 256
IMAGES = [random.Random(7).randbytes(size) for size in (0, 1, 2, 3, 1000, 30_000)]
TEXTS = [base64.b64encode(image).decode() for image in IMAGES]
BODY = json.dumps({"images": TEXTS}).encode()
ESCAPED = "".join(f"\\u{ord(character):04x}" for character in TEXTS[4])

VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.sampled_from(TEXTS[:4]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["images", "a"]), inner, max_size=2),
)


def read(body: bytes, size: int = 1 << 20) -> list[bytes | str]:
    return images_in(JsonImages(MAX_IMAGES, ("top_k",)), every(size, body))


@pytest.mark.parametrize(
    ("body", "images"),
    [
        (BODY, IMAGES),
        (BODY.replace(b"/", rb"\/"), IMAGES),
        (b"\xef\xbb\xbf\r\n" + json.dumps({"images": TEXTS}, indent=4).encode() + b"\n\t ", IMAGES),
        (json.dumps({"images": [base64.encodebytes(image).decode() for image in IMAGES]}).encode(), IMAGES),
        (f'{{"im\\u0061ges":["{ESCAPED}"]}}'.encode(), IMAGES[4:5]),
        (b'{"images":[]}', []),
    ],
    ids=range(6),
)
def test_images_are_read_however_json_writes_them(body: bytes, images: list[bytes]) -> None:
    for size in (7, 1 << 20):
        assert read(body, size) == images


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"images": [1]}', "image 0 is a number; the body must be"),
        (b'{"images": ["", {"a": "b"}]}', "image 1 is an object"),
        (b'{"images": [[' * 2, "image 0 is a list"),
        (b'{"images": [null]}', "image 0 is null"),
        (b'{"images": [true]}', "image 0 is true or false"),
        (b'{"images": "AAAA"}', '"images" is a string; .*"<base64>"'),
        (b'{"images": {}}', '"images" is an object'),
        (b'["AAAA"]', "the body is a list"),
        (b'"AAAA"', "the body is a string"),
        (b"17", "the body is a number"),
        (b"{}", "an empty object"),
        (b'{"image": "AAAA"}', 'has the key "image"; it must be {"images"'),
        (b'{"images": [], "model": "x"}', 'has the key "model"'),
        (b'{"top_k": 3, "images": []}', 'has the key "top_k".*in the URL: /predict'),
        (b'{"' + b"k" * 100_000, 'has the key "kkkk'),
        (b'{"images": [], "images": []}', 'the key "images" twice'),
        (b'{"images": ["A\nA"]}', "not JSON: a line break .* base64 -w0"),
        (rb'{"images": ["A\qA     "]}', "not JSON: a string holds .* no escape"),
        (rb'{"images": ["A\u00zzA"]}', "not JSON: a string holds"),
        (b'{"images": ["AAAA"]} {}', "not JSON: more follows its end"),
        (b'{"images": ["AAAA"', "not JSON: it ends after 18 bytes"),
        (b'{"images": ["AAAA', "not JSON: it ends"),
        (b'{"images": ["AAAA",]}', "not JSON: .* where image 1 should"),
        (b'{"images": ["AAAA" "AAAA"]}', "not JSON: .* where a comma or ] should"),
        (b"{'images': []}", "not JSON: .* where a key in double quotes should"),
        (b'{"images"=[]}', "not JSON: .* where a colon should"),
        (b"hello", "not JSON: 'hell"),
        (b"{", "not JSON: it ends after 1 bytes"),
        ('{"images": []}'.encode("utf-16"), "UTF-16"),
        ('{"images": []}'.encode("utf-16-be"), "UTF-16"),
        ('{"images": []}'.encode("utf-32-le"), "UTF-32"),
    ],
    ids=range(31),
)
def test_any_other_form_is_refused_with_its_reason(body: bytes, says: str) -> None:
    for size in (1 << 20, 4):
        with pytest.raises(MalformedRequest, match=says):
            read(body, size)


def test_an_image_that_is_no_base64_leaves_its_neighbours() -> None:
    """An image that is not base64 is rejected alone, also where its text is not UTF-8."""
    one, other, third, fourth = read(b'{"images": ["AAAA", "\xff\xfe", "\\ud800", "AAAA"]}')
    assert (one, fourth) == (bytes(3), bytes(3))
    assert "outside ASCII" in str(other)
    assert "outside ASCII" in str(third)


def test_more_images_than_allowed_are_refused() -> None:
    assert len(read(b'{"images": [' + b",".join([b'""'] * 256) + b"]}")) == 256
    with pytest.raises(TooManyImages, match=r"more than 256 images, the limit \(max_images_per_request\)"):
        read(b'{"images": [' + b",".join([b'""'] * 257) + b"]}")


@pytest.mark.parametrize("repeated", [b"{},", b"[],", b"[", b'{"a":', b'"",', b"1,", b"null,"])
def test_a_bomb_costs_next_to_nothing(repeated: bytes) -> None:
    """Reading stops at the first unwanted JSON value. Parsed objects would take ten times the memory of their text."""
    reader, piece = JsonImages(MAX_IMAGES), (repeated * 100_000)[:65536]
    tracemalloc.start()
    try:
        with pytest.raises(ClientError):
            images_in(reader, iter([b'{"images": [', piece, *[piece] * 100]))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_large_image_takes_no_more_than_its_bytes() -> None:
    """A large image takes the memory of its bytes, three quarters of the text; the text is not kept."""
    tracemalloc.start()
    try:
        pieces = iter([b'{"images": ["', *[b"QUJD" * 16384] * 64, b'"]}'])
        (image,) = images_in(JsonImages(1), pieces)
        assert len(image) == 3 << 20
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < (3 << 20) * 2 + (1 << 20)  # `images_in` makes one joined copy


def test_a_reader_is_freed_at_once() -> None:
    """A dropped reader frees its images at once. Until the next garbage collection no limit would count them."""
    gc.collect()
    gc.disable()
    try:
        reader = JsonImages(MAX_IMAGES)
        reader.write(BODY[:-10])
        before = gc.get_count()[0]
        del reader
        assert gc.get_count()[0] < before
    finally:
        gc.enable()


@given(VALUES, st.lists(st.integers(0, 200), max_size=5))
@settings(max_examples=400, deadline=None)
def test_any_json_is_read_or_refused(value: object, cuts: list[int]) -> None:
    """JSON of the right form gives its images in order; any other JSON is refused, wherever it is split."""
    body = json.dumps(value).encode()
    outcome = outcome_of(JsonImages(MAX_IMAGES), in_pieces(body, cuts))
    images = value.get("images") if isinstance(value, dict) and value.keys() == {"images"} else None
    if isinstance(images, list) and all(isinstance(image, str) for image in images):
        assert isinstance(outcome, list)
        assert len(outcome) == len(images)
    else:
        assert outcome is MalformedRequest


@given(st.lists(st.sampled_from([b'{"images":["', *b'{}[]":,\\u \xff', b"images", b"AA==", b"data:,"]), max_size=12))
@settings(max_examples=400, deadline=None)
def test_anything_is_read_or_refused(tokens: list[bytes | int]) -> None:
    """Any bytes give the same images or the same refusal, wherever they are split."""
    body = b"".join(token if isinstance(token, bytes) else bytes([token]) for token in tokens)
    whole, cut = (outcome_of(JsonImages(2), every(size, body)) for size in (1 << 20, 1))
    assert type(whole) is type(cut)
    assert whole == cut or isinstance(whole, list)
