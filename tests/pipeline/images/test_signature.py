"""Tests of file signatures: every kind of file that is sent in place of an image is named."""

import base64
import gzip
import io
import json
import struct
import zipfile

import numpy as np
import pytest

from harness.photographs import encoded, jpeg, photograph
from pipeline.images.signature import HEAD_BYTES, cut_off, kind_of, start_within
from tests.support.image_files import png, webp

IMAGE = photograph("cat").resize((40, 30))


def _iso(major: bytes, *compatible: bytes) -> bytes:
    brands = b"".join(compatible)
    return struct.pack(">I", 16 + len(brands)) + b"ftyp" + major + bytes(4) + brands + b"\0\0\0\x08mdat" + bytes(99)


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("cat.jpg", jpeg(IMAGE))
    return file.getvalue()


def _npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(IMAGE))
    return file.getvalue()


KINDS = {
    **{name: encoded(IMAGE, name) for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF", "TIFF", "ICO", "PDF")},
    "JPEG 2000": encoded(IMAGE, "JPEG2000"),
    "Netpbm": b"P3 1 1 255 9 9 9",
    "DDS": encoded(IMAGE, "DDS"),
    "HEIC": _iso(b"heic", b"mif1", b"heic"),
    "HEIF": _iso(b"mif1", b"miaf"),
    "camera raw": _iso(b"crx ", b"isom"),
    "MP4 video": _iso(b"isom", b"iso2", b"mp41"),
    "QuickTime video": _iso(b"qt  "),
    "WebM or Matroska video": b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01" + bytes(90),
    "AVI video": b"RIFF" + bytes(4) + b"AVI LIST" + bytes(90),
    "JPEG XL": b"\xff\x0a" + bytes(90),
    "PSD": b"8BPS\0\1" + bytes(90),
    "gzip": gzip.compress(jpeg(IMAGE)),
    "zip": _zip(),
    "NumPy array": _npy(),
    "SVG": b'<?xml version="1.0"?>\n<!-- made by hand -->\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "HTML": b"\xef\xbb\xbf\n<!DOCTYPE html><title>404 Not Found</title>",
    "XML": b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
    "JSON": json.dumps({"error": "no such file"}).encode(),
    "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "data URL: send the bytes that it encodes": b"data:image/png;base64," + base64.b64encode(png(IMAGE)),
    "base64 text of a JPEG: send the bytes that it encodes": base64.b64encode(jpeg(IMAGE)),
    "base64 text of a PNG: send the bytes that it encodes": base64.b64encode(png(IMAGE)),
    "base64 text of a WebP: send the bytes that it encodes": base64.b64encode(webp(IMAGE)),
    "text of a file's bytes: send the bytes": repr(jpeg(IMAGE)).encode(),
    "binary file that was read as text: its bytes are lost": b"\xef\xbf\xbd" * 4 + b"\0\x10JFIF",
    "URL: send the image itself": b"https://example.org/cat.jpg\n",
    "multipart body: send it as multipart/form-data": b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\n',
    "text": b"LEHV6nWB2yk8pyo0adR*.7kCMdnj",
    "UTF-16 text": "cat".encode("utf-16"),
    "zero bytes": bytes(1000),
    "unknown": b"\x07\x13" * 200,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_named_for_what_it_is(kind: str) -> None:
    assert kind_of(KINDS[kind][:HEAD_BYTES]) == kind


@pytest.mark.parametrize(
    ("major", "others", "kind"),
    [
        (b"mif1", [b"avif", b"miaf"], "AVIF"),
        (b"msf1", [b"hevc", b"heic"], "HEIC"),
        (b"avis", [b"msf1", b"avif"], "AVIF"),
        (b"mp42", [b"heic"], "MP4 video"),
    ],
)
def test_a_brand_that_only_says_image_leaves_it_to_the_others(major: bytes, others: list[bytes], kind: str) -> None:
    assert kind_of(_iso(major, *others)) == kind


@pytest.mark.parametrize("file", [b"BMW is a car", b"GIF is a format", b"RIFFraff, all of it", b"PNG\r\n\x1a\n", b"P6"])
def test_a_text_that_begins_like_an_image_is_none(file: bytes) -> None:
    assert kind_of(file) not in ("BMP", "GIF", "WEBP", "PNG", "JPEG")


@pytest.mark.parametrize(("kind", "whole"), [("JPEG", 2), ("PNG", 8), ("WEBP", 12)])
def test_a_part_of_a_signature_is_an_image_cut_off(kind: str, whole: int) -> None:
    for length in range(4 if kind == "WEBP" else 1, whole):
        assert cut_off(KINDS[kind][:length]) == kind
    assert cut_off(b"A letter") is None


def test_an_image_that_begins_later_is_found() -> None:
    assert start_within(b"\r\n" + jpeg(IMAGE)) == "JPEG start marker found after 2 other bytes"
    assert start_within(bytes(300) + png(IMAGE)) == "PNG start marker found after 300 other bytes"
    assert start_within(b"A letter") is None
