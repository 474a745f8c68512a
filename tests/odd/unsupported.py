"""Valid files that are not decoded, each with a word that the refusal must contain."""

import base64
import bz2
import gzip
import io
import json
import lzma
import struct
import tarfile
import zipfile
from collections.abc import Iterator

from harness.photographs import encoded, jpeg
from tests.odd.odd_file import DAMAGED, OddFile, unsupported
from tests.odd.seeds import cat, grey, samples
from tests.support.jpeg_segments import END, SOF1, START, segment
from tests.support.jpeg_writer import FULL, coded, frame, huffman_tables, lossless, sequential
from tests.support.png_writer import RGB, png


def unsupporteds() -> Iterator[OddFile]:
    """Yield files that must be refused by name."""
    yield from _jpeg_codings()
    for name, (data, says) in _image_formats().items():
        yield unsupported("another image format", name, data, says)
    for name, (data, says) in _no_images().items():
        yield unsupported("no image", name, data, says)
    yield from _little()
    yield from _bytes_before()


def _jpeg_codings() -> Iterator[OddFile]:
    kind, picture = "JPEG coding that is not decoded", coded(cat())
    sound = sequential(picture)
    yield unsupported(kind, "12 bits", sequential(coded(cat(), precision=12), marker=SOF1), "12.?bit")
    yield unsupported(kind, "12 bits, grey", sequential(coded(grey(), FULL[:1], precision=12), marker=SOF1), "12.?bit")
    yield unsupported(kind, "DNL", sequential(picture, dnl=True), "DNL|number of (lines|rows)")
    yield unsupported(kind, "two components", sequential(coded(cat().convert("LA"), FULL[:2])), "(2|two) (comp|chan)")
    yield unsupported(kind, "lossless of 16 bits", lossless(cat(), precision=16), "16.?bit|lossless")
    yield unsupported(kind, "lossless of 12 bits", lossless(cat(), precision=12), "12.?bit|lossless")
    at = sound.index(b"\xff\xc0") + 1
    for marker, says in {
        0xC5: "hierarchical|differential",
        0xC6: "hierarchical|differential",
        0xC7: "hierarchical|differential",
        0xCB: "lossless|arithmetic",
        0xCD: "hierarchical|differential",
        0xCE: "hierarchical|differential",
        0xCF: "hierarchical|differential",
    }.items():
        yield unsupported(kind, f"SOF{marker - 0xC0}", sound[:at] + bytes([marker]) + sound[at + 1 :], says)
    ls = START + frame(0xF7, picture) + segment(0xDA, b"\3\1\0\2\0\3\0\0\2\0") + bytes(500) + END
    yield unsupported(kind, "JPEG-LS", ls, "JPEG.LS")
    five = START + segment(0xC0, struct.pack(">BHHB", 8, 61, 93, 5) + bytes(15)) + huffman_tables() + END
    yield unsupported(kind, "five components", five, "(5|five) (comp|chan)")


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body) + 8) + kind + body


def _ftyp(brand: bytes, *others: bytes) -> bytes:
    return _box(b"ftyp", brand + bytes(4) + b"".join(others)) + _box(b"mdat", bytes(200))


def _image_formats() -> dict[str, tuple[bytes, str]]:
    by_pillow = {name: encoded(cat(), name) for name in ("GIF", "BMP", "TIFF", "AVIF", "ICO", "PPM", "TGA", "JPEG2000")}
    return {
        "GIF": (by_pillow["GIF"], "GIF"),
        "BMP": (by_pillow["BMP"], "BMP"),
        "TIFF": (by_pillow["TIFF"], "TIFF"),
        "TIFF of the other byte order": (b"MM\0*\0\0\0\x08" + bytes(100), "TIFF"),
        "BigTIFF": (b"II+\0\x08\0\0\0\x10" + bytes(100), "TIFF"),
        "AVIF": (by_pillow["AVIF"], "AVIF"),
        "HEIC": (_ftyp(b"heic", b"mif1heic"), "HEI[CF]"),
        "HEIC of many": (_ftyp(b"hevc", b"msf1hevc"), "HEI[CF]"),
        "HEIF": (_ftyp(b"mif1", b"mif1heic"), "HEI[CF]"),
        "CR3, a raw file": (_ftyp(b"crx ", b"isom"), ""),
        "ICO": (by_pillow["ICO"], "ICO"),
        "PPM": (by_pillow["PPM"], ""),
        "TGA": (by_pillow["TGA"], ""),
        "JPEG 2000": (by_pillow["JPEG2000"], "JPEG.?2000|JP2"),
        "JPEG 2000, bare": (b"\xff\x4f\xff\x51\0\x2f" + bytes(100), "JPEG.?2000|JP2"),
        "JPEG XL": (b"\xff\x0a" + bytes(range(100)), "JPEG.?XL"),
        "JPEG XL, in a container": (_box(b"JXL ", b"\r\n\x87\n") + _ftyp(b"jxl "), "JPEG.?XL"),
        "PSD": (b"8BPS\0\1" + bytes(200), "PSD|Photoshop"),
        "OpenEXR": (b"v/1\x01\2\0\0\0" + bytes(100), ""),
        "Radiance": (b"#?RADIANCE\n" + bytes(100), ""),
        "DDS": (b"DDS |\0\0\0" + bytes(120), ""),
        "QOI": (b"qoif" + bytes(100), ""),
        "XCF": (b"gimp xcf v011\0" + bytes(100), ""),
        "DICOM": (bytes(128) + b"DICM" + bytes(100), ""),
        "WAV, also of RIFF": (b"RIFF" + struct.pack("<I", 100) + b"WAVEfmt " + bytes(100), ""),
        "AVI, also of RIFF": (b"RIFF" + struct.pack("<I", 100) + b"AVI LIST" + bytes(100), ""),
        "MNG": (b"\x8aMNG\r\n\x1a\n" + bytes(100), ""),
        "WMF": (b"\xd7\xcd\xc6\x9a" + bytes(100), ""),
    }


def _no_images() -> dict[str, tuple[bytes, str]]:
    text = {name: (data.encode(), says) for name, (data, says) in _texts().items()}
    return text | {
        "HTML of UTF-16": ("<!doctype html><title>404</title>".encode("utf-16"), ""),
        "HTML behind a byte order mark": (b"\xef\xbb\xbf<!DOCTYPE html><html></html>", "HTML"),
        "PDF": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n" + bytes(100), "PDF"),
        "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", ""),
        "gzip of a JPEG": (gzip.compress(jpeg(cat()), mtime=0), "gzip"),
        "zip": (_zip(), "zip"),
        "tar": (_tar(), ""),
        "bzip2": (bz2.compress(jpeg(cat())), ""),
        "xz": (lzma.compress(jpeg(cat())), ""),
        "MP4": (_ftyp(b"isom", b"isomiso2avc1mp41"), "MP4|video|ISO"),
        "QuickTime": (_ftyp(b"qt  "), ""),
        "WebM": (b"\x1aE\xdf\xa3" + bytes(100), ""),
        "MP3": (b"ID3\4\0\0" + bytes(100), ""),
        "ELF": (b"\x7fELF\2\1\1" + bytes(100), ""),
        "a pickle": (b"\x80\4\x95\x10\0\0\0" + bytes(50), ""),
        "a NumPy array": (b"\x93NUMPY\1\0v\0{'descr': '|u1'}" + bytes(100), ""),
        "noise": (bytes((7 * n * n + 3 * n + 90) % 251 for n in range(500)), ""),
        "a multipart body": (b'--boundary\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + jpeg(cat()), ""),
    }


def _texts() -> dict[str, tuple[str, str]]:
    encoded_jpeg = base64.b64encode(jpeg(cat())).decode()
    return {
        "SVG": ('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "SVG"),
        "SVG behind an XML declaration": (
            '<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
            "SVG|XML",
        ),
        "HTML": ("<!doctype html><title>404 Not Found</title><p>There is no picture here.", "HTML"),
        "HTML in capitals, behind spaces": ("\n\n   <HTML><BODY>Access denied</BODY></HTML>", "HTML"),
        "JSON": (json.dumps({"error": "not found", "code": 404}), "JSON"),
        "JSON with a list": (json.dumps([1, 2, 3]), "JSON"),
        "XML": ('<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML"),
        "plain text": ("Not an image: a letter to the editor, of a few dozen bytes.\n", "text"),
        "text of another alphabet": ("Кошка сидит на окне и смотрит на улицу.", ""),
        "a Git LFS pointer": (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{'4d7a2146' * 8}\nsize 12345\n",
            "LFS",
        ),
        "base64 of a JPEG": (encoded_jpeg, "base64"),
        "base64 of a PNG": (base64.b64encode(png(samples(cat()), RGB)).decode(), "base64"),
        "base64 in lines": (base64.encodebytes(jpeg(cat())).decode(), "base64"),
        "base64 of a WebP": (base64.b64encode(encoded(cat(), "WEBP")).decode(), "base64"),
        "a data URL": (f"data:image/jpeg;base64,{encoded_jpeg}", "data.?URL|base64"),
        "an address": ("https://example.com/cat.jpg", ""),
        "a path": ("/home/me/cat.jpg", ""),
        "hexadecimal": (jpeg(cat()).hex(), ""),
        "a Python literal": (repr(jpeg(cat())[:100]), ""),
        "a shell's complaint": ("cat: cat.jpg: No such file or directory\n", ""),
    }


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr("cat.jpg", jpeg(cat()))
    return file.getvalue()


def _tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as opened:
        member = tarfile.TarInfo("cat.jpg")
        member.size = 100
        opened.addfile(member, io.BytesIO(jpeg(cat())[:100]))
    return file.getvalue()


def _little() -> Iterator[OddFile]:
    """Yield files with hardly any bytes."""
    yield OddFile("next to nothing", "empty", b"", (400, DAMAGED))
    for name, data in {
        "one byte": b"\xff",
        "a letter": b"a",
        "a line feed": b"\n",
        "zeros": bytes(1000),
        "ones": b"\xff" * 1000,
        "half of a PNG's signature": b"\x89PNG",
        "half of a JPEG's marker": b"\xff\xd8"[:1],
        "RIFF and nothing": b"RIFF",
        "spaces": b" " * 100,
    }.items():
        yield OddFile("next to nothing", name, data, (415, DAMAGED))


def _bytes_before() -> Iterator[OddFile]:
    """Yield images with bytes before them. The refusal says where the image begins, as the sender is at fault."""
    kind = "bytes before the start"
    for name, file in {"JPEG": jpeg(cat()), "PNG": png(samples(cat()), RGB), "WebP": encoded(cat(), "WEBP")}.items():
        for what, before in {
            "a zero": b"\0",
            "a line end": b"\r\n",
            "a byte order mark": b"\xef\xbb\xbf",
            "HTTP's header": b"HTTP/1.1 200 OK\r\nContent-Type: image/any\r\n\r\n",
            "100 zeros": bytes(100),
        }.items():
            says = f"{name}|before|start|byte" if len(before) < 100 else ""
            yield unsupported(kind, f"{name} behind {what}", before + file, says)
