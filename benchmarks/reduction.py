"""Minimum size of a reduced JPEG relative to the resize: change of scores and cost of an image, by ratio.

`python -m benchmarks.reduction [--step 8]`. First 1/8, 1/4 and 1/2, at ratios from 1 to 5.8; then the rule in force
(`pipeline.images.geometry.dct_scale`), at every `step`th short side from 256 to 3200 pixels. The reference is
`decode: exact` on the same file. Photographs are scaled and encoded in three chroma samplings in turn, in all of them
where the rule reduces. Scores are those of mobilenet_v2. A run takes about an hour of one core; with `--step 64`, some
minutes.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks import charts
from benchmarks.album import album, scaled
from benchmarks.decoders import darkroom_exact, darkroom_fast, scored_by_mobilenet
from benchmarks.limit import TRANSFORM
from harness import table
from harness.circumstances import circumstances
from harness.command import RESULTS, Facts, parser_of, run, say, write
from harness.figures import svg
from harness.photographs import jpeg
from pipeline.decode.memory import keep_freed_memory
from pipeline.images.geometry import dct_scale, resized
from pipeline.images.resize import CropPlan, resize_fast

Pixels = NDArray[np.uint8]
Score = Callable[[Sequence[Pixels]], torch.Tensor]
"""Scores images: pixels -> float32 [images, classes]."""

EIGHTHS: Final = (1, 2, 4)
RATIOS: Final = (1, 1.1, 1.25, 1.5, 2, 2.5, 2.93, 3.5, 4, 5, 5.8)
MIN_SHORT_SIDE_PX: Final = 256
MAX_SHORT_SIDE_PX: Final = 3200
SAMPLINGS: Final = ("4:4:4", "4:2:2", "4:2:0")
TIMED_SIZES_PX: Final = ((500, 375), (1024, 768), (1920, 1080), (4032, 3024))
ROUNDS: Final = 9
HEADER: Final = ("decoded at", "ratio", "files", "largest change", "90 % below", "other first class", "off by, levels")
COST_HEADER: Final = ("image", "decoded at", "ratio", "ms", "times whole")


@dataclass(frozen=True, slots=True)
class Change:
    """Differences of one file's pixels and scores from those of `exact`.

    Args:
        what: "a part", or "the rule".
        photograph: name of the photograph.
        sampling: chroma sampling.
        short_px: shorter side in pixels.
        eighths: decoded part of its width and height, in eighths.
        score: largest change of the score of any class.
        lead: difference between the first class of `exact` and the new first class, in scores of `exact`; 0: the same.
        levels: mean difference of a value, of 255 levels.
    """

    what: str
    photograph: str
    sampling: str
    short_px: int
    eighths: int
    score: float
    lead: float
    levels: float

    @property
    def ratio(self) -> float:
        """Ratio of the decoded image's shorter side to that of the resized one."""
        return self.short_px * self.eighths / 8 / TRANSFORM.resize_px


def decoded(data: bytes, size: tuple[int, int], eighths: int) -> Pixels:
    """Decode like `fast`, but at the given number of eighths of width and height."""
    width, height = size
    least = -(-width * eighths // 8), -(-height * eighths // 8)
    pixels = simplejpeg.decode_jpeg(data, min_width=least[0], min_height=least[1], min_factor=1)
    if pixels.shape[:2] != least[::-1]:
        raise RuntimeError(f"it is not decoded at {eighths}/8")
    target, crop = resized(width, height, TRANSFORM.resize_px), TRANSFORM.crop_px
    left, top = (round((length - crop) / 2) for length in target)
    return resize_fast(pixels, CropPlan((width * eighths / 8, height * eighths / 8), target, left, top), TRANSFORM)


def changes_of_parts(name: str, picture: Image.Image, score: Score) -> Iterator[Change]:
    """Measure one photograph at every part and ratio up to `MAX_SHORT_SIDE_PX`, with samplings in turn."""
    points = [(round(ratio * TRANSFORM.resize_px * 8 / eighths), eighths) for eighths in EIGHTHS for ratio in RATIOS]
    for number, (short_px, eighths) in enumerate(point for point in points if point[0] <= MAX_SHORT_SIDE_PX):
        image, sampling = scaled(picture, short_px), (number + len(name)) % 3
        data = jpeg(image, subsampling=sampling)
        pair = darkroom_exact(data), decoded(data, image.size, eighths)
        yield _change("a part", name, SAMPLINGS[sampling], short_px, eighths, pair, score)


def changes_of_rule(name: str, picture: Image.Image, score: Score, sides_px: Iterable[int]) -> Iterator[Change]:
    """Measure one photograph as `fast` decodes it: in every sampling where it is reduced, else in one of them."""
    for number, short_px in enumerate(sides_px):
        image = scaled(picture, short_px)
        part = dct_scale(image.size, resized(*image.size, TRANSFORM.resize_px))
        for sampling in range(3) if part > 1 else [(number + len(name)) % 3]:
            data = jpeg(image, subsampling=sampling)
            pair = darkroom_exact(data), darkroom_fast(data)
            yield _change("the rule", name, SAMPLINGS[sampling], short_px, 8 // part, pair, score)


def _change(
    what: str, name: str, sampling: str, short_px: int, eighths: int, pair: tuple[Pixels, Pixels], score: Score
) -> Change:
    exact, fast = score(pair)
    return Change(
        what,
        name,
        sampling,
        short_px,
        eighths,
        score=float((fast - exact).abs().max()),
        lead=float(exact.max() - exact[fast.argmax()]),
        levels=float(abs(pair[0].astype(int) - pair[1]).mean()),
    )


def costs() -> list[Facts]:
    """Measure milliseconds of one core for an image at every factor, in turn, for several photographs."""
    records = list[Facts]()
    for size in TIMED_SIZES_PX:
        files = [jpeg(open_it().resize(size, Image.Resampling.LANCZOS)) for open_it in [*album().values()][:6]]
        factors = [eighths for eighths in range(1, 9) if min(size) * eighths / 8 >= TRANSFORM.resize_px]
        ms: dict[int, list[float]] = {eighths: [] for eighths in factors}
        for _ in range(ROUNDS):
            for eighths in factors:
                began_s = time.process_time()
                for data in files:
                    decoded(data, size, eighths)
                ms[eighths].append(1000 * (time.process_time() - began_s) / len(files))
        for eighths in factors:
            whole = statistics.median(one / other for one, other in zip(ms[eighths], ms[8], strict=True))
            ratio = min(size) * eighths / 8 / TRANSFORM.resize_px
            facts = {"eighths": eighths, "ratio": ratio, "ms": statistics.median(ms[eighths]), "times_whole": whole}
            records.append({"what": "cost", "size": f"{size[0]} x {size[1]}", **facts})
    return records


def bands(changes: Sequence[Change]) -> list[list[str]]:
    """Make the rows of the table: the parts by ratio, then the rule by decoded part."""
    groups = dict[tuple[str, str], list[Change]]()
    for change in sorted(changes, key=lambda change: (change.what, change.eighths, change.ratio)):
        is_rule = change.what == "the rule"
        words = "the rule: whole" if change.eighths == 8 else f"the rule: {change.eighths}/8"
        key = (words, "") if is_rule else (f"{change.eighths}/8", f"{change.ratio:.2f}")
        groups.setdefault(key, []).append(change)
    return [_row(*key, group) for key, group in groups.items()]


def _row(words: str, ratio: str, group: Sequence[Change]) -> list[str]:
    scores = sorted(change.score for change in group)
    others = [change for change in group if change.lead > 0]
    behind = f", by up to {max(change.lead for change in others):.4f}" if others else ""
    return [
        words,
        ratio or f"{min(change.ratio for change in group):.2f} to {max(change.ratio for change in group):.2f}",
        str(len(group)),
        f"{scores[-1]:.3f}",
        f"{scores[int(0.9 * len(scores))]:.3f}",
        f"{len(others)}{behind}",
        f"{statistics.mean(change.levels for change in group):.2f}",
    ]


def report(about: Facts, changes: Sequence[Change], cost: Sequence[Facts]) -> str:
    """Write table, records and figure; return the table for a terminal."""
    rows = bands(changes)
    cost_rows = [
        [
            facts["size"],
            f"{facts['eighths']}/8",
            f"{facts['ratio']:.2f}",
            f"{facts['ms']:.2f}",
            f"{facts['times_whole']:.2f}",
        ]
        for facts in cost
    ]
    markdown = table.markdown(HEADER, rows) + "\n" + table.markdown(COST_HEADER, cost_rows)
    stem = RESULTS / "reduction"
    records = [_rounded(record) for record in (*cost, *map(asdict, changes))]
    write(stem, [about, *records], markdown)
    stem.with_suffix(".svg").write_text(svg(charts.reduction(records)))
    return table.text(HEADER, rows) + "\n" + table.text(COST_HEADER, cost_rows)


def _rounded(record: Facts) -> Facts:
    return {name: round(value, 5) if isinstance(value, float) else value for name, value in record.items()}


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status."""
    parser = parser_of("benchmarks.reduction", __doc__)
    parser.add_argument("--step", type=int, default=8, help="pixels from one short side to the next (8)")
    options = parser.parse_args(arguments)
    about = circumstances("benchmarks.reduction", arguments)
    torch.set_num_threads(1)
    keep_freed_memory()
    cost, changes, score = costs(), list[Change](), scored_by_mobilenet()
    for name, open_it in album().items():
        say(name)
        changes += changes_of_parts(name, open_it(), score)
        changes += changes_of_rule(
            name, open_it(), score, range(MIN_SHORT_SIDE_PX, MAX_SHORT_SIDE_PX + 1, options.step)
        )
    sys.stdout.write(report(about, changes, cost))
    return 0


if __name__ == "__main__":
    run(main)
