"""Compares backgrounds for transparent pixels by the scores of mobilenet_v2.

.venv/bin/python -m benchmarks.transparency

Three kinds of pictures: photographs whose alpha is opaque, which no background may change; cut-outs, the middle of a
photograph on a transparent ground, under which there is black, as most programs write it, or the photograph, as some
do; and line drawings. The reference of a photograph is itself without alpha, of a cut-out and a drawing the same drawn
on white. Of cut-outs it also counts how many keep the first class of the whole photograph.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmarks.decoders import scored_by_mobilenet
from benchmarks.limit import TRANSFORM
from harness import table
from harness.photographs import NAMES, encoded, photograph
from pipeline.config import DROP_TRANSPARENCY
from pipeline.images.decode import decode
from pipeline.live_limits import Limits

BACKGROUNDS: Final = ("white", "gray", "black", DROP_TRANSPARENCY)
HEADER: Final = ("pictures", "background", "largest change of a score", "same first class", "that of the photograph")

Scores = Callable[[Sequence[NDArray[np.uint8]]], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture with alpha, and its reference."""

    image: Image.Image  # RGBA
    reference: Image.Image  # RGB
    whole: Image.Image | None = None  # the photograph that the picture is cut from


@dataclass(frozen=True, slots=True)
class BackgroundResult:
    """Scores of pictures of one kind on one background, against the reference."""

    kind: str
    background: str
    change: float  # largest difference of a score from the reference
    same: int  # number of pictures with the reference's first class
    whole: int  # number of pictures with the first class of the whole photograph
    images: int


def photographs() -> list[Picture]:
    """Make all photographs with opaque alpha."""
    return [Picture(photograph(name).convert("RGBA"), photograph(name)) for name in NAMES]


def cut_outs(*, hidden: bool) -> list[Picture]:
    """Cut the middle out of each photograph, an ellipse with a soft border, over black or the hidden photograph."""
    return [_cut_out(photograph(name), share, hidden=hidden) for name in NAMES for share in (0.1, 0.2)]


def _cut_out(whole: Image.Image, share: float, *, hidden: bool) -> Picture:
    mask = Image.new("L", (4 * whole.width, 4 * whole.height))
    box = (share * mask.width, share * mask.height, (1 - share) * mask.width, (1 - share) * mask.height)
    ImageDraw.Draw(mask).ellipse(box, fill=255)
    alpha = mask.resize(whole.size, Image.Resampling.LANCZOS)
    image = whole.convert("RGBA")
    if not hidden:
        image.paste((0, 0, 0, 0), mask=alpha.point(lambda value: 255 * (value == 0)))
    image.putalpha(alpha)
    return Picture(image, _on_white(image), whole)


def drawings() -> list[Picture]:
    """Draw a clock, a house, a spiral and a ladder in black."""
    lines = {
        "clock": [[(200, 200), (200, 110)], [(200, 200), (270, 200)]],
        "house": [[(80, 200), (200, 80), (320, 200)], [(100, 200), (100, 330), (300, 330), (300, 200)]],
        "spiral": [
            [(200 + 2 * i * np.cos(i / 6), 200 + 2 * i * np.sin(i / 6)) for i in range(80)],
        ],
        "ladder": [
            [(150, 40), (150, 360)],
            [(250, 40), (250, 360)],
            *([(150, y), (250, y)] for y in range(60, 360, 50)),
        ],
    }
    found = []
    for name, strokes in lines.items():
        image = Image.new("RGBA", (400, 400))
        pen = ImageDraw.Draw(image)
        if name == "clock":
            pen.ellipse((80, 80, 320, 320), outline="black", width=12)
        for stroke in strokes:
            pen.line(stroke, fill="black", width=10)
        found.append(Picture(image, _on_white(image)))
    return found


def _on_white(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


KINDS: Final[dict[str, Callable[[], list[Picture]]]] = {
    "photographs, opaque": photographs,
    "cut-outs, black hidden": lambda: cut_outs(hidden=False),
    "cut-outs, photograph hidden": lambda: cut_outs(hidden=True),
    "line drawings": drawings,
}


def compare(kind: str, score: Scores) -> list[BackgroundResult]:
    """Compare all backgrounds with the pictures of one kind."""
    pictures = KINDS[kind]()
    expected = score([_decoded(_encoded(picture.reference), "white") for picture in pictures])
    wholes = [_decoded(_encoded(picture.whole), "white") for picture in pictures if picture.whole]
    first = score(wholes).argmax(1) if wholes else torch.empty(0)
    files, results = [_encoded(picture.image) for picture in pictures], []
    for background in BACKGROUNDS:
        found = score([_decoded(file, background) for file in files])
        classes = found.argmax(1)
        results.append(
            BackgroundResult(
                kind,
                background,
                float((found - expected).abs().max()),
                int((classes == expected.argmax(1)).sum()),
                int((classes == first).sum()) if wholes else 0,
                len(pictures),
            )
        )
    return results


def _encoded(image: Image.Image) -> bytes:
    return encoded(image, "PNG", compress_level=1)


def _decoded(file: bytes, background: str) -> NDArray[np.uint8]:
    return decode(memoryview(file), replace(TRANSFORM, background=background), Limits().max_image_pixels)


def row(result: BackgroundResult) -> list[str]:
    """Format a row of the table."""
    whole = f"{result.whole} of {result.images}" if result.kind.startswith("cut-outs") else table.NOTHING
    return [
        result.kind,
        result.background,
        f"{result.change:.3f}",
        f"{result.same} of {result.images}",
        whole,
    ]


def main() -> None:
    """Print the table, and the same figures as JSON in the last line."""
    score = scored_by_mobilenet()
    results = [result for kind in KINDS for result in compare(kind, score)]
    print(table.text(HEADER, [row(result) for result in results]))
    print(json.dumps([asdict(result) for result in results]))


if __name__ == "__main__":
    main()
