"""Learns from recent images how long a transform of the user's own takes, by the pixels of an image."""

from typing import Final

_FORGETTING: Final = 0.98
"""Weight of an image relative to the one after it: about the last 50 images count."""

_USUAL_PIXEL_S: Final = 4.5e-9
"""Seconds a pixel before any image was seen, those of Pillow's resize; decides between sizes that were never seen."""

_ASSUMED_PIXELS: Final = 1e6
_ASSUMED_WEIGHT: Final = 0.01
"""Two images are assumed to have been seen, without pixels and with these, each with this weight."""


class TransformCost:
    """A line through the times of recent images: seconds for any image, and seconds a pixel (least squares)."""

    def __init__(self) -> None:
        self._seen = (0.0, 0.0, 0.0, 0.0, 0.0)  # weighted sums of: images, pixels, seconds, pixels^2, pixels * seconds
        self._fixed_s, self._pixel_s = 0.0, _USUAL_PIXEL_S

    def seconds(self, pixels: int) -> float:
        """Return the seconds that the transform should take for an image."""
        return self._fixed_s + self._pixel_s * pixels

    def note(self, pixels: int, took_s: float) -> None:
        """Add an image that has just been transformed."""
        image = _terms(pixels, took_s)
        self._seen = tuple(_FORGETTING * old + new for old, new in zip(self._seen, image, strict=True))  # type: ignore[assignment]
        assumed = zip(_terms(0.0, 0.0), _terms(_ASSUMED_PIXELS, _USUAL_PIXEL_S * _ASSUMED_PIXELS), strict=True)
        images, x, y, xx, xy = (
            seen + _ASSUMED_WEIGHT * (one + other) for seen, (one, other) in zip(self._seen, assumed, strict=True)
        )
        self._pixel_s = max(0.0, (images * xy - x * y) / (images * xx - x * x))
        self._fixed_s = (y - self._pixel_s * x) / images
        if self._fixed_s < 0:
            self._fixed_s, self._pixel_s = 0.0, xy / xx


def _terms(pixels: float, seconds: float) -> tuple[float, float, float, float, float]:
    return 1.0, pixels, seconds, pixels * pixels, pixels * seconds
