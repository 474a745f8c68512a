"""Tests of the whole path: encoded images in, outcomes out, in order."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache

import pytest
import torch
from PIL import Image
from torchvision import models

from harness.photographs import NAMES, jpeg, original, phone_jpeg, photograph
from pipeline.config import PipelineConfig
from pipeline.engine import Engine
from pipeline.errors import (
    EmptyImage,
    ImageTooLarge,
    TooManyPixels,
)
from pipeline.live_limits import Limits
from pipeline.model.device import PendingBatch
from pipeline.records import EncodedImage, Outcome, Prediction, Rejection
from tests.conftest import PIPELINE, SMALL
from tests.support.answers import CAT_LABELS, kinds
from tests.support.device_kinds import GPU, KINDS, device_of
from tests.support.image_files import BAD, ODD_BUT_GOOD, png, with_orientation
from tests.support.waiting import PATIENCE_S

CAT = jpeg(photograph("cat"))

ONCE = pytest.mark.parametrize("kind", ["cpu"], indirect=True)
"""Marks tests that do not depend on the device."""


def _config(kind: str) -> PipelineConfig:
    """Return the configuration of an engine; few sizes for a posing device, as each is recorded three times."""
    posing = kind == "cuda" and not GPU
    return PIPELINE.model_copy(update={"device": kind, **({"batch_sizes": (1, 2)} if posing else {})})


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each kind of device in turn."""
    with device_of(request.param) as kind:
        yield kind


@pytest.fixture(scope="module")
def engine(kind: str) -> Iterator[Engine]:
    """Return an engine in `fast` mode."""
    with Engine(_config(kind)) as engine:
        yield engine


@pytest.fixture(scope="module")
def exact(kind: str) -> Iterator[Engine]:
    """Return an engine in `exact` mode, with the runtime that is the quickest here."""
    with Engine(_config(kind).model_copy(update={"decode": "exact", "runtime": "auto"})) as engine:
        yield engine


@cache
def reference() -> torch.nn.Module:
    """Return the model as torchvision gives it."""
    model: torch.nn.Module = models.mobilenet_v2(weights="IMAGENET1K_V1").eval()
    return model


@cache
def by_torchvision(name: str) -> torch.Tensor:
    """Return float32 [1000]: the scores of every class for a photograph, by torchvision alone."""
    with torch.inference_mode():
        batch = models.MobileNet_V2_Weights.IMAGENET1K_V1.transforms()(photograph(name))[None]
        scores: torch.Tensor = reference()(batch).softmax(1)[0]
    return scores


def scores(outcome: Outcome) -> torch.Tensor:
    """Return float32 [1000]: the scores of every class, in their order."""
    assert isinstance(outcome, Prediction)
    assert len(outcome.result.labels) == len(outcome.result.indices) == len(outcome.result.scores) == 1000
    return torch.empty(1000).scatter_(0, torch.tensor(outcome.result.indices), torch.tensor(outcome.result.scores))


# ---- answers --------------------------------------------------------------------------------------------------------


def test_outcomes_are_complete_and_in_order(engine: Engine) -> None:
    """One hundred images, good, odd and bad, each get the outcome that they have alone, in order."""
    files = {**{name: (file, Prediction) for name, file in ODD_BUT_GOOD.items()}, **BAD}
    files |= {name: (original(name), Prediction) for name in NAMES}
    names = [[*files][n * n * n % len(files)] for n in range(100)]
    outcomes = engine.infer([files[name][0] for name in names])
    assert kinds(outcomes) == [files[name][1] for name in names]
    best = {name: outcome.result.labels[0] for name, outcome in zip(names, outcomes, strict=True) if name in NAMES}  # type: ignore[union-attr]
    assert best == {name: engine.labels[int(by_torchvision(name).argmax())] for name in best}


@pytest.mark.parametrize("together", [1, 7, 32])
def test_exact_scores_are_torchvisions_in_any_company(exact: Engine, together: int) -> None:
    """In `exact` mode all 1000 scores equal torchvision's, whatever the batch and the place in it."""
    files = {name: png(photograph(name)) for name in NAMES}
    for first in range(0, max(len(NAMES), together), together):
        names = [NAMES[(first + place) % len(NAMES)] for place in range(together)]
        for name, outcome in zip(names, exact.infer([files[name] for name in names]), strict=True):
            torch.testing.assert_close(scores(outcome), by_torchvision(name), atol=1e-3, rtol=0)


def test_the_device_gets_page_locked_memory(engine: Engine, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On CUDA the pixels that DataLoader hands over are page-locked, so copies to the device run beside its kernels."""
    pinned, launch = list[bool](), engine._compute._device.launch

    def asked(pieces: Sequence[torch.Tensor]) -> PendingBatch:
        pinned.extend(piece.is_pinned() for piece in pieces)
        return launch(pieces)

    monkeypatch.setattr(engine._compute._device, "launch", asked)
    assert kinds(engine.infer([CAT] * 20)) == [Prediction] * 20
    assert set(pinned) == {kind == "cuda"}


def test_the_labels_are_the_weights_own(engine: Engine) -> None:
    (outcome,) = engine.infer([CAT])
    assert isinstance(outcome, Prediction)
    assert outcome.result.labels[0] in CAT_LABELS
    assert [engine.labels[index] for index in outcome.result.indices] == [*outcome.result.labels]
    assert [*outcome.result.scores] == sorted(outcome.result.scores, reverse=True)
    assert sum(outcome.result.scores) == pytest.approx(1, abs=1e-4)


SHORT_SIDES_PX = (256, 511, 512, 513, 540, 768, 1023, 1024, 1080, 1536, 2048, 2160, 2969, 2970, 3024)
"""Sizes that `fast` decodes whole and, from 2970 on, at a half, with the most common ones."""


def _sized(name: str, short_px: int, number: int) -> bytes:
    """Return a photograph with this shorter side; its number chooses a sampling in colour, grey, or a rotation."""
    image = photograph(name)
    times = short_px / min(image.size)
    image = image.resize((round(image.width * times), round(image.height * times)), Image.Resampling.LANCZOS)
    if number % 5 == 3:
        return jpeg(image.convert("L"))
    return with_orientation(image, 6) if number % 5 == 4 else jpeg(image, subsampling=number % 5)


@ONCE
def test_fast_changes_scores_a_little_and_no_first_class(
    engine: Engine, exact: Engine, record_testsuite_property: Callable[[str, object], None]
) -> None:
    """`fast` changes scores a little and no clear first class, on every photograph in several sizes.

    If the first two classes differ by less than 0.005, either may be first. With -s the change is printed.
    """
    files = {name: original(name) for name in NAMES}
    for number, short_px in enumerate(SHORT_SIDES_PX):
        name = NAMES[number * 5 % len(NAMES)]
        files[f"{name}, {short_px} pixels"] = _sized(name, short_px, number)
    files |= {f"{name}, 4000 x 3000": phone_jpeg(name) for name in NAMES}
    changes = {}
    for name, one, other in zip(files, engine.infer([*files.values()]), exact.infer([*files.values()]), strict=True):
        assert scores(other)[scores(one).argmax()] > scores(other).max() - 0.005, name
        changes[name] = float((scores(one) - scores(other)).abs().max())
    largest = max(changes, key=lambda name: changes[name])
    record_testsuite_property("largest change of a score, fast against exact", f"{changes[largest]:.4f} ({largest})")
    sys.stdout.write(f"\nlargest change of a score, fast against exact: {changes[largest]:.4f} ({largest})\n")
    assert changes[largest] < 0.03


def test_timings_say_where_the_time_went(engine: Engine) -> None:
    """The timings of the stages add up to no more than the call."""
    began_at = time.perf_counter()
    (outcome,) = engine.infer([phone_jpeg()])
    took_s, timings = time.perf_counter() - began_at, outcome.timings
    assert min(timings.decode_s, timings.model_s) > 0
    assert min(timings.queue_s, timings.wait_s, timings.copy_s) >= 0
    stages = [name for name in timings.__dataclass_fields__ if name.endswith("_s")]
    assert sum(getattr(timings, stage) for stage in stages) <= took_s


@ONCE
def test_no_images_have_no_outcomes(engine: Engine) -> None:
    assert engine.infer([]) == []


def test_many_requests_are_submitted_at_once(engine: Engine) -> None:
    """Each of many requests has its own future; an empty or cancelled one does not affect the others."""
    requests = [[EncodedImage(CAT)] * n for n in (3, 0, 1, 2)]
    futures = engine.submit(iter(requests))
    futures[3].cancel()
    assert [len(future.result(PATIENCE_S)) for future in futures[:3]] == [3, 0, 1]


@ONCE
def test_many_threads_may_ask(engine: Engine) -> None:
    files = [jpeg(photograph(name)) for name in NAMES]
    expected, got = engine.infer(files), dict[int, list[Outcome]]()

    def ask(number: int) -> None:
        got[number] = engine.infer(files[number:] + files[:number])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(files))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    first = [outcome.result.labels[0] for outcome in expected if isinstance(outcome, Prediction)]
    for number in range(len(files)):
        assert [outcome.result.labels[0] for outcome in got[number] if isinstance(outcome, Prediction)] == (
            first[number:] + first[:number]
        )


# ---- limits ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def limited(exact: Engine) -> Iterator[Engine]:
    """Return an engine whose limits a test may change."""
    yield exact
    exact.limits = Limits()


@ONCE
def test_limits_change_while_it_runs(limited: Engine) -> None:
    """Limits change while the engine runs, and each is exact: as much as the limit passes, one more does not."""
    pixels = photograph("cat").width * photograph("cat").height
    assert kinds(limited.infer([CAT])) == [Prediction]
    limited.limits = Limits(max_image_bytes=len(CAT), max_image_pixels=pixels, max_batch_size=1)
    assert kinds(limited.infer([CAT, CAT + b"\0", b""])) == [Prediction, ImageTooLarge, EmptyImage]
    limited.limits = Limits(max_image_pixels=pixels - 1)
    assert kinds(limited.infer([CAT, CAT + b"\0"])) == [TooManyPixels] * 2


@ONCE
def test_a_rejection_by_size_names_value_and_limit(limited: Engine) -> None:
    limited.limits = Limits(max_image_bytes=100)
    (outcome,) = limited.infer([b"x" * 101])
    assert isinstance(outcome, Rejection)
    assert str(outcome.error) == "the image has 101 bytes; the limit is 100"


@ONCE
def test_limits_that_are_refused_change_nothing(limited: Engine) -> None:
    with pytest.raises(ValueError, match=r"max_batch_size: 33 is above the largest"):
        limited.limits = Limits(max_batch_size=33, max_image_bytes=1)
    assert limited.limits == Limits()
    assert kinds(limited.infer([CAT])) == [Prediction]


def test_limits_above_the_configuration_are_refused_before_anything_starts() -> None:
    with pytest.raises(ValueError, match=r"max_batch_size: 32 is above the largest of batch_sizes, 2"):
        Engine(SMALL, Limits())


def test_limits_that_are_left_open_allow_the_largest_batch(small: Engine) -> None:
    assert small.limits == Limits(max_batch_size=2)


def test_limits_below_the_warm_up_image_do_not_keep_it_from_starting() -> None:
    with Engine(SMALL, Limits(max_batch_size=1, max_image_bytes=1, max_image_pixels=1)) as engine:
        assert kinds(engine.infer([CAT])) == [ImageTooLarge]
        engine.limits = Limits(max_batch_size=1, max_image_pixels=1)
        assert kinds(engine.infer([CAT])) == [TooManyPixels]


def test_limits_set_before_the_start_hold(small: Engine) -> None:
    small.limits = Limits(max_batch_size=2, max_image_bytes=10)
    assert kinds(small.infer([CAT])) == [ImageTooLarge]
