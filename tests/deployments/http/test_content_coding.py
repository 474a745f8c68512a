"""Tests of compressed bodies, which are decoded while they arrive."""

import gzip
import random
import tracemalloc
import zlib

import pytest

from deployments.http.content_coding import PIECE_BYTES, Decoder, decoder_for
from deployments.request_errors import MalformedRequest, RequestTooLarge, UnsupportedContentEncoding
from pipeline.errors import ClientError

DRAWN = random.Random(3)
CONTENTS = [b"", b"a", DRAWN.randbytes(PIECE_BYTES), DRAWN.randbytes(300_000), bytes(PIECE_BYTES * 2), b"ab" * 200_000]


def bare_deflate(content: bytes) -> bytes:
    """Compress without zlib's header and checksum, as many clients do."""
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(content) + stream.flush()


def decoded(body: bytes, coding: str, size: int = 65536) -> bytes:
    decoder = decoder_for(coding)
    assert isinstance(decoder, Decoder)
    pieces = [made for at in range(0, len(body), size) for made in decoder.decode(body[at : at + size])]
    decoder.finish()
    assert all(0 < len(piece) <= PIECE_BYTES for piece in pieces)
    return b"".join(pieces)


@pytest.mark.parametrize("content", CONTENTS, ids=len)
def test_what_was_compressed_comes_out(content: bytes) -> None:
    """Every compressed form that clients send is decoded completely, however the body is split."""
    for size in (7, 5000, 1 << 20):
        assert decoded(gzip.compress(content), "gzip", size) == content
        assert decoded(zlib.compress(content), "deflate", size) == content
        assert decoded(bare_deflate(content), "deflate", size) == content


@pytest.mark.parametrize("coding", ["x-gzip", " GZIP ", "identity, gzip", "gzip,"])
def test_a_coding_is_written_as_one_likes(coding: str) -> None:
    assert decoded(gzip.compress(b"abc"), coding) == b"abc"


def test_a_gzip_body_may_be_of_several_streams() -> None:
    """A gzip body may consist of several streams, as `cat` joins files, and may end in zero bytes."""
    body = gzip.compress(b"one ") + gzip.compress(b"") + gzip.compress(b"two") + bytes(100)
    assert decoded(body, "gzip", 1) == decoded(body, "gzip") == b"one two"
    with pytest.raises(MalformedRequest, match="more than 10000 streams"):
        decoded(gzip.compress(b"") * 10_001, "gzip")


@pytest.mark.parametrize("coding", ["", "identity", "Identity,"])
def test_nothing_is_decoded_where_nothing_is_compressed(coding: str) -> None:
    assert decoder_for(coding) is None


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "gzip, br", "aws-chunked", "none", "x" * 1000])
def test_another_coding_is_named(coding: str) -> None:
    with pytest.raises(UnsupportedContentEncoding, match=f"{coding[:50]}.* in one of gzip, deflate, identity"):
        decoder_for(coding)


@pytest.mark.parametrize(
    ("body", "coding", "says"),
    [
        (b"\xff\xd8\xff\xe0", "gzip", r"not gzip data, or damaged .* sent without this header"),
        (zlib.compress(b"abc"), "gzip", "not gzip data"),
        (gzip.compress(b"abc" * 99), "deflate", "not deflate data"),
        (gzip.compress(b"abc")[:-1], "gzip", "ends before its gzip data do"),
        (gzip.compress(b"abc")[:5], "x-gzip", "ends before its x-gzip data do"),
        (zlib.compress(b"abc")[:-1], "deflate", "ends before its deflate data do"),
        (b"x", "deflate", "ends before its deflate data do"),
        (gzip.compress(b"abc") + b"x", "gzip", "bytes follow the gzip data"),
        (gzip.compress(b"abc") + b"\0x", "gzip", "bytes follow the gzip data"),
        (zlib.compress(b"abc") + b"x", "deflate", "bytes follow the deflate data"),
        (gzip.compress(b"abc" * 99)[:20] + b"xxxxxxxxxxxxxxxx", "gzip", "or damaged|ends before"),
    ],
    ids=range(11),
)
def test_data_that_are_damaged_are_refused(body: bytes, coding: str, says: str) -> None:
    for size in (1, 65536):
        with pytest.raises(MalformedRequest, match=says):
            decoded(body, coding, size)


def test_a_bomb_costs_next_to_nothing() -> None:
    """A compression bomb is refused before it takes memory; a body with a smaller ratio is decoded."""
    bomb = gzip.compress(bytes(64 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(RequestTooLarge, match="expands more than 100 times, the limit"):
            for _ in Decoder("gzip").decode(bomb):
                pass
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert decoded(gzip.compress(bytes(4 << 20)), "gzip") == bytes(4 << 20)


def test_any_damage_is_a_refusal() -> None:
    """A damaged compressed body is refused with a client error, or the damage has no effect.

    No other error is raised.
    """
    body = gzip.compress(b"photograph " * 50)
    for at in range(len(body)):
        for coding in ("gzip", "deflate"):
            damaged = body[:at] + bytes([body[at] ^ DRAWN.randrange(1, 256)]) + body[at + 1 :]
            try:
                decoded(damaged, coding)
            except ClientError:
                continue
