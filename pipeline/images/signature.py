"""Recognises the kind of a file by its first bytes: image formats, and other files that are sent by mistake."""

import re
from typing import Final

HEAD_BYTES: Final = 512
"""Number of a file's first bytes that `kind_of` reads."""

USUAL_FORMAT_NAMES: Final = {"WEBP": "WebP", "HEIF": "HEIC"}
"""Usual names of formats that Pillow calls by another name."""


class NotDecoded(Exception):
    """A file of a kind that is not decoded; the message names the kind."""


class Damaged(Exception):
    """A header that is cut off or invalid; the message says where."""


_SIGNATURES: Final = (
    (b"\xff\xd8", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"8BPS", "PSD"),
    (b"\0\0\1\0", "ICO"),
    (b"\0\0\2\0", "CUR"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"II\xbc", "JPEG XR"),
    (b"\x8aMNG", "MNG"),
    (b"\x8bJNG", "JNG"),
    (b"qoif", "QOI"),
    (b"FLIF", "FLIF"),
    (b"BPG\xfb", "BPG"),
    (b"DDS ", "DDS"),
    (b"\xabKTX", "KTX"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"gimp xcf", "XCF"),
    (b"icns", "ICNS"),
    (b"farbfeld", "farbfeld"),
    (b"FUJIFILM", "camera raw"),
    (b"IIU\0", "camera raw"),
    (b"IIRO", "camera raw"),
    (b"\xd7\xcd\xc6\x9a", "WMF"),
    (b"SIMPLE  =", "FITS"),
    (b"\x1f\x8b", "gzip"),
    (b"PK\3\4", "zip"),
    (b"PK\5\6", "zip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!", "RAR"),
    (b"\x1a\x45\xdf\xa3", "WebM or Matroska video"),
    (b"\0\0\1\xba", "MPEG video"),
    (b"\0\0\1\xb3", "MPEG video"),
    (b"FLV\1", "FLV video"),
    (b"OggS", "Ogg"),
    (b"ID3", "MP3 audio"),
    (b"fLaC", "FLAC audio"),
    (b"\x93NUMPY", "NumPy array"),
    (b"\x89HDF", "HDF5"),
    (b"PAR1", "Parquet"),
    (b"SQLite format 3", "SQLite"),
    (b"\x7fELF", "executable"),
    (b"bplist", "property list"),
    (b"\xd0\xcf\x11\xe0", "Microsoft Office document"),
    (b"\xef\xbf\xbd\xef\xbf\xbd", "binary file that was read as text: its bytes are lost"),
)
_ISO_BRANDS: Final = {
    "AVIF": (b"avif", b"avis"),
    "HEIC": (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"),
    "HEIF": (b"mif1", b"mif2", b"msf1", b"miaf"),
    "camera raw": (b"crx ",),
    "QuickTime video": (b"qt  ",),
}
"""Kinds of files by the brands of the ISO base media file format; every other brand is a video's."""

_TEXT_PATTERNS: Final = (
    (r"version https://git-lfs", "Git LFS pointer"),
    (r"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!doctype svg[^>]*>\s*)?(<!--.*?-->\s*)*<svg", "SVG"),
    (r"(<!--.*?-->\s*)*<(!doctype html|html|head|body|title|div|p|script|meta|h1|table)\b", "HTML"),
    (r"<\?xml|<[a-z!]", "XML"),
    (r"[{\[]", "JSON"),
    (r"data:[a-z]+/", "data URL: send the bytes that it encodes"),
    (r"/9j/[a-z0-9+/]", "base64 text of a JPEG: send the bytes that it encodes"),
    (r"ivborw0kggo", "base64 text of a PNG: send the bytes that it encodes"),
    (r"uklgr[a-z0-9+/]", "base64 text of a WebP: send the bytes that it encodes"),
    (r"r0lgod[a-z0-9+/]", "base64 text of a GIF: send the bytes that it encodes"),
    (r"(0x|\\x)?ff[ ,]*(0x|\\x)?d8[ ,]*(0x|\\x)?ff|b'\\x(ff|89)", "text of a file's bytes: send the bytes"),
    (r"(0x|\\x)?89[ ,]*(0x|\\x)?50[ ,]*(0x|\\x)?4e", "text of a file's bytes: send the bytes"),
    (r"--\S+\s+content-", "multipart body: send it as multipart/form-data"),
    (r"(http/1|content-|mime-version)", "HTTP message"),
    (r"(https?|file|ftp|s3|gs|blob)://\S+\s*$", "URL: send the image itself"),
)
_TEXT_KINDS: Final = tuple((re.compile(pattern, re.DOTALL), kind) for pattern, kind in _TEXT_PATTERNS)
_NOT_IN_TEXT: Final = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_NETPBM_START: Final = re.compile(rb"P([1-6]\s+(#.*\s+)?\d+\s+\d|7\sWIDTH)")
_BMP_HEADER_BYTES: Final = (12, 16, 40, 52, 56, 64, 108, 124)
"""Sizes of a BMP's second header, one for each version of the format."""

_START_MARKERS: Final = ((b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"))


def kind_of(head: bytes) -> str:
    """Return the kind of a file by its first bytes: Pillow's name of an image format, or a description of other files.

    Args:
        head: the first `HEAD_BYTES` bytes of a file that is not empty, or the whole of a shorter file.
    """
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    if head.startswith(b"RIFF"):
        return {b"WEBP": "WEBP", b"AVI ": "AVI video", b"WAVE": "WAV audio"}.get(head[8:12], "RIFF file")
    if head[4:8] == b"ftyp":
        return _kind_by_brand(head)
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADER_BYTES:
        return "BMP"
    return _kind_of_the_rest(head)


def cut_off(head: bytes) -> str | None:
    """Return the format of a file that ends within its signature; None for other files."""
    if head.startswith(b"RIFF") and len(head) < 12:
        return "WEBP"
    whole = {"JPEG": b"\xff\xd8", "PNG": b"\x89PNG\r\n\x1a\n"}
    return next((kind for kind, signature in whole.items() if signature.startswith(head)), None)


def start_within(head: bytes) -> str | None:
    """Describe the place in these bytes where a JPEG or PNG starts; None if there is none."""
    found = min(((head.find(start), kind) for start, kind in _START_MARKERS if start in head), default=None)
    return found and f"{found[1]} start marker found after {found[0]} other bytes"


def _kind_by_brand(head: bytes) -> str:
    """Return the kind by the major brand of an ISO file; if that only says "some image", by the compatible brands."""
    major = head[8:12]
    compatible = head[16 : min(len(head), int.from_bytes(head[:4], "big"))]
    brands = [major, *(compatible[at : at + 4] for at in range(0, len(compatible), 4))]
    if major in _ISO_BRANDS["HEIF"]:
        return next((kind for kind in ("AVIF", "HEIC") if set(_ISO_BRANDS[kind]) & set(brands)), "HEIF")
    return next((kind for kind, names in _ISO_BRANDS.items() if major in names), "MP4 video")


def _kind_of_the_rest(head: bytes) -> str:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16 text"
    if _NETPBM_START.match(head):
        return "Netpbm"
    if not _NOT_IN_TEXT.search(head):
        text = head.decode("utf-8", "replace").lstrip("\ufeff \t\r\n").lower()
        return next((kind for pattern, kind in _TEXT_KINDS if pattern.match(text)), "text")
    if head[128:132] == b"DICM":
        return "DICOM"
    if head[257:262] == b"ustar":
        return "tar"
    if not head.strip(b"\0"):
        return "zero bytes"
    return "unknown"
