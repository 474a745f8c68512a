"""Files that the clients of a soak send: real photographs, and files that must be refused."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from PIL import Image, ImageOps

from harness.photographs import NAMES, encoded, photograph, png_file

_SIZES_PX: Final = ((320, 240), (500, 375), (1024, 768))
_PHONE_PX: Final = (4000, 3000)
_SLOW_PX: Final = (7000, 7000)

_PHONE_SHARE: Final = 0.01
_SLOW_SHARE: Final = 0.002
BAD_SHARE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Sample:
    """A file, and the status of its refusal; None if it must be predicted."""

    name: str
    data: bytes
    media_type: str
    status: HTTPStatus | None = None


@dataclass(frozen=True, slots=True)
class Corpus:
    """All files, from which `draw` takes one."""

    common: Sequence[Sample]
    phone: Sequence[Sample]  # 12 megapixels
    slow: Sequence[Sample]  # 49 megapixels, progressive: a second or more of one core
    bad: Sequence[Sample]

    @property
    def good(self) -> list[Sample]:
        """Return the files that must be predicted."""
        return [*self.common, *self.phone, *self.slow]

    def without(self, names: set[str]) -> "Corpus":
        """Return the corpus without some of the common and the large files."""
        common, phone, slow = (
            [sample for sample in part if sample.name not in names] for part in (self.common, self.phone, self.slow)
        )
        return Corpus(common, phone, slow, self.bad)

    def draw(self, rng: random.Random) -> Sample:
        """Draw a file, in the shares of the mix."""
        at = rng.random()
        for share, part in ((BAD_SHARE, self.bad), (_PHONE_SHARE, self.phone), (_SLOW_SHARE, self.slow)):
            if at < share and part:
                return rng.choice(part)
            at -= share
        return rng.choice(self.common)


def build_corpus() -> Corpus:
    """Encode all files, which takes some seconds."""
    return Corpus(
        common=[sample for name in NAMES for sample in _common(name, photograph(name))],
        phone=[
            _sample(f"{name} phone", photograph(name).resize(_PHONE_PX), "JPEG", quality=85)
            for name in ("cat", "espresso", "temple")
        ],
        slow=[_sample("cat slow", photograph("cat").resize(_SLOW_PX), "JPEG", quality=60, progressive=True)],
        bad=list(_bad(photograph("cat"))),
    )


def _common(name: str, image: Image.Image) -> Iterator[Sample]:
    """Yield the picture in several sizes, and mirrored; their scores tell them apart."""
    for size in _SIZES_PX:
        fitted = ImageOps.fit(image, size)
        yield _sample(f"{name} {size[0]} jpeg", fitted, "JPEG", quality=90)
        yield _sample(f"{name} {size[0]} webp", ImageOps.mirror(fitted), "WEBP", quality=85)
    yield _sample(f"{name} {_SIZES_PX[1][0]} png", ImageOps.fit(image, _SIZES_PX[1]), "PNG", compress_level=1)


def _sample(name: str, image: Image.Image, kind: str, **options: Any) -> Sample:
    return Sample(name, encoded(image, kind, **options), f"image/{kind.lower()}")


def _bad(image: Image.Image) -> Iterator[Sample]:
    good = {kind: _sample(kind, image, kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF")}
    for kind in ("JPEG", "PNG", "WEBP"):
        file = good[kind]
        half = file.data[: len(file.data) // 2]
        yield Sample(f"truncated {kind}", half, file.media_type, HTTPStatus.UNPROCESSABLE_ENTITY)
        headless = file.data[:20] + b"\xa5" * 200
        yield Sample(f"headless {kind}", headless, file.media_type, HTTPStatus.UNPROCESSABLE_ENTITY)
    for kind in ("GIF", "TIFF"):
        yield Sample(kind, good[kind].data, good[kind].media_type, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    yield Sample("text", b"Dear editor, this is no picture.\n", "image/jpeg", HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    yield Sample("bomb", png_file((50_000, 50_000), ()), "image/png", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
