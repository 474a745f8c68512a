"""GIF, BMP and AVIF files for services that accept them: valid, transparent and damaged ones."""

import io
import struct
from collections.abc import Iterator

from PIL import Image

from harness.photographs import encoded
from tests.odd.odd_file import DAMAGED, TOO_MUCH, OddFile, answered, by_pillow, damaged
from tests.odd.seeds import cat, cut_out, flower, grey, on_white

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF")

_CUTS = (20, 50, 80)


def others() -> Iterator[OddFile]:
    """Yield the files, with the answers of a service that accepts these formats."""
    yield from _gifs()
    yield from _bmps()
    yield from _avifs()
    for name, file in {
        "GIF": encoded(cat(), "GIF"),
        "BMP": encoded(cat(), "BMP"),
        "AVIF": encoded(cat(), "AVIF"),
    }.items():
        for percent in _CUTS:
            cut = file[: len(file) * percent // 100]
            yield damaged(f"{name}, where it is served, damaged", f"cut after {percent} %", cut)


def _gifs() -> Iterator[OddFile]:
    kind = "GIF, where it is served"
    for colours in (2, 3, 16, 255):
        few = cat().quantize(colours)
        for interlaced in (False, True):
            file = encoded(few, "GIF", interlace=interlaced, optimize=False)
            yield answered(kind, f"{colours} colours{', interlaced' if interlaced else ''}", file, few.convert("RGB"))
    animated = encoded(cat(), "GIF", save_all=True, append_images=[flower()], duration=50)
    yield answered(kind, "animated: the first picture counts", animated, by_pillow(animated))
    see_through = encoded(cat().quantize(8), "GIF", transparency=3)
    yield answered(kind, "transparent", see_through, on_white(Image.open(io.BytesIO(see_through))))
    commented = encoded(cat(), "GIF", comment=b"a comment of many bytes" * 50)
    yield answered(kind, "a long comment", commented, by_pillow(commented))
    wide = bytearray(encoded(cat(), "GIF"))
    struct.pack_into("<HH", wide, 6, 65535, 65535)
    yield OddFile("GIF, where it is served, damaged", "a screen of 65535 x 65535", bytes(wide), (TOO_MUCH, DAMAGED))


def _bmps() -> Iterator[OddFile]:
    kind = "BMP, where it is served"
    for mode in ("1", "L", "P", "RGB"):
        image = cat().convert(mode)
        yield answered(kind, mode, encoded(image, "BMP"), image.convert("RGB"))
    upside_down = bytearray(encoded(grey().convert("RGB"), "BMP"))
    struct.pack_into("<i", upside_down, 22, -cat().height)
    mirrored = grey().transpose(Image.Transpose.FLIP_TOP_BOTTOM).convert("RGB")
    yield answered(kind, "rows from the top", bytes(upside_down), mirrored)
    wide = bytearray(encoded(cat(), "BMP"))
    struct.pack_into("<ii", wide, 18, 65535, 65535)
    yield OddFile(f"{kind}, damaged", "65535 x 65535", bytes(wide), (TOO_MUCH, DAMAGED))
    struct.pack_into("<ii", wide, 18, cat().width, 4 * cat().height)
    yield damaged(f"{kind}, damaged", "four times the height", bytes(wide))


def _avifs() -> Iterator[OddFile]:
    kind = "AVIF, where it is served"
    for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
        file = encoded(cat(), "AVIF", subsampling=subsampling)
        yield answered(kind, subsampling, file, by_pillow(file))
    file = encoded(grey(), "AVIF")
    yield answered(kind, "grey", file, by_pillow(file))
    file = encoded(cut_out(), "AVIF", quality=90)
    yield answered(kind, "transparent", file, on_white(Image.open(io.BytesIO(file))))
    file = encoded(cat(), "AVIF", save_all=True, append_images=[flower()])
    yield answered(kind, "animated: the first picture counts", file, by_pillow(file))
