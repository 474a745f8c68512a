"""Files with alpha in every form: the picture as seen on white must be answered, without the hidden colours."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.photographs import encoded
from tests.odd.odd_file import OddFile, answered
from tests.odd.seeds import cat, cut_out, flower, grey, on_white, samples
from tests.support.png_writer import GREY, GREY_ALPHA, PALETTE, RGB, RGB_ALPHA, png


def transparents() -> Iterator[OddFile]:
    """Yield files that must get the answer of their picture on white."""
    rgba = samples(cut_out())
    yield from _of_png(rgba)
    yield from _keys()
    yield from _palettes()
    yield from _of_webp()
    yield from _wholly(rgba)


def _of_png(rgba: NDArray[Any]) -> Iterator[OddFile]:
    seen, shades = on_white(cut_out()), samples(cut_out().convert("LA"))
    for interlaced in (False, True):
        suffix = ", interlaced" if interlaced else ""
        yield _png(f"RGB and alpha{suffix}", png(rgba, RGB_ALPHA, interlaced=interlaced), seen)
        deep = png(rgba.astype(np.uint16) * 257, RGB_ALPHA, depth=16, interlaced=interlaced)
        yield _png(f"RGB and alpha of 16 bits{suffix}", deep, seen)
        grey_seen = on_white(cut_out().convert("LA"))
        yield _png(f"grey and alpha{suffix}", png(shades, GREY_ALPHA, interlaced=interlaced), grey_seen)
        deep = png(shades.astype(np.uint16) * 257, GREY_ALPHA, depth=16, interlaced=interlaced)
        yield _png(f"grey and alpha of 16 bits{suffix}", deep, grey_seen)
    animated = encoded(cut_out(), "PNG", save_all=True, append_images=[flower().convert("RGBA")])
    yield _png("animated", animated, seen)


def _png(name: str, file: bytes, seen: Image.Image) -> OddFile:
    return answered("PNG, transparent", name, file, seen)


def _keys() -> Iterator[OddFile]:
    """Yield files with one transparent colour (tRNS of colour types 0 and 2)."""
    for depth in (8, 16):
        times = 257 if depth == 16 else 1
        key = samples(grey())[30, 46, 0]
        mask = samples(grey())[..., 0] == key
        seen = np.where(mask[..., None], 255, samples(grey().convert("RGB"))).astype(np.uint8)
        wide = samples(grey()).astype(np.uint16) * times
        before = [(b"tRNS", int(key * np.int64(times)).to_bytes(2, "big"))]
        file = png(wide, GREY, depth=depth, before=before)
        yield _png(f"one shade of {depth} bits", file, Image.fromarray(seen))

        colours = samples(cat().quantize(20).convert("RGB"))
        colour = colours[30, 46]
        seen = np.where((colours == colour).all(-1)[..., None], 255, colours).astype(np.uint8)
        before = [(b"tRNS", b"".join(int(each * np.int64(times)).to_bytes(2, "big") for each in colour))]
        file = png(colours.astype(np.uint16) * times, RGB, depth=depth, before=before)
        yield _png(f"one colour of {depth} bits", file, Image.fromarray(seen))
    few = (samples(grey()) >> 6).astype(np.uint8)
    for depth, values in ((2, few), (1, few >> 1), (4, few)):
        scale = 255 // (2**depth - 1)
        seen = np.where(values == 1, 255, values * scale).astype(np.uint8)
        file = png(values, GREY, depth=depth, before=[(b"tRNS", b"\0\1")])
        yield _png(f"one shade of {depth} bits", file, Image.fromarray(seen[..., 0]).convert("RGB"))


def _palettes() -> Iterator[OddFile]:
    for bits in (1, 2, 4, 8):
        image = cat().quantize(2**bits)
        colours = bytes(image.getpalette() or ())[: 3 * 2**bits]
        for name, alphas in {
            "first colour": b"\0",
            "every second": (b"\0\xff" * 128)[: 2**bits],
            "half": bytes([128]) * 2**bits,
        }.items():
            table = np.frombuffer(colours, np.uint8).reshape(-1, 3)
            alpha = np.frombuffer(alphas.ljust(2**bits, b"\xff"), np.uint8)[:, None]
            rgba = np.concatenate([table, alpha[: len(table)]], 1)[samples(image)[..., 0]]
            file = png(samples(image), PALETTE, depth=bits, before=[(b"PLTE", colours), (b"tRNS", alphas)])
            yield _png(f"palette of {bits} bits, {name}", file, on_white(Image.fromarray(rgba)))


def _of_webp() -> Iterator[OddFile]:
    kind = "WebP, transparent"
    kinds: dict[str, dict[str, Any]] = {
        "lossless": {"lossless": True, "exact": True},
        "lossless, colours removed": {"lossless": True},
        "animated": {"lossless": True, "exact": True, "save_all": True, "append_images": [flower().convert("RGBA")]},
    }
    for name, options in kinds.items():
        yield answered(kind, name, encoded(cut_out(), "WEBP", **options), on_white(cut_out()))
    lossy = encoded(cut_out(), "WEBP", quality=95)
    yield answered(kind, "lossy", lossy, _rgba_on_white(lossy))


def _rgba_on_white(file: bytes) -> Image.Image:
    return on_white(Image.open(io.BytesIO(file)))


def _wholly(rgba: NDArray[Any]) -> Iterator[OddFile]:
    kind, white = "wholly transparent", Image.new("RGB", cat().size, "white")
    nothing = rgba.copy()
    nothing[..., 3] = 0
    yield answered(kind, "PNG", png(nothing, RGB_ALPHA), white)
    yield answered(kind, "WebP", encoded(Image.fromarray(nothing), "WEBP", lossless=True, exact=True), white)
    drawing = Image.new("RGBA", cat().size)
    drawing.paste("black", (20, 10, 60, 50))
    yield answered(kind, "but for a black square", encoded(drawing, "PNG"), on_white(drawing))
    opaque = rgba.copy()
    opaque[..., 3] = 255
    yield answered(kind, "not at all", png(opaque, RGB_ALPHA), Image.fromarray(opaque).convert("RGB"))
