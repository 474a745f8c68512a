"""The result of a run in plain English, for the screen and for the report."""

import math
from collections.abc import Iterator, Sequence
from typing import Final

from tuning.comparison import Comparison
from tuning.findings import Findings
from tuning.load_check import LoadResult
from tuning.replica_settings import Settings
from tuning.step import number
from tuning.transform_gain import gain

FEW_IMAGES: Final = 10
"""Number of images below which a caution is shown."""

UNSTEADY_SPREAD_SHARE: Final = 0.25
"""Share by which the machine's speed may vary before a caution is shown."""

MEANINGLESS_NOISE_SHARE: Final = 0.25
"""Noise above which a comparison means nothing."""

BUSY_SHARE: Final = 0.3
"""Share of the cores that other programs may use before a caution is shown."""

CLIENTS_SHARE: Final = 0.05
"""Share of the cores that the clients may take before a caution is shown."""


def in_words(settings: Settings) -> str:
    """Describe the three settings that matter most."""
    at_a_time = f"{number(settings.concurrent_batches, 'batch')} at a time of up to {number(settings.batch, 'image')}"
    return f"{number(settings.decode_workers, 'decoding worker')}, {at_a_time}"


def milliseconds(seconds: float) -> str:
    """Format a time for people."""
    if not math.isfinite(seconds):
        return "never"
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def rate(images_per_s: float, images_per_request: int) -> str:
    """Format a rate for people; with several images a request, also in requests."""
    words = f"{images_per_s:.3g} images/s"
    return words if images_per_request == 1 else f"{words} ({images_per_s / images_per_request:.3g} requests/s)"


def measured(findings: Findings) -> Iterator[str]:
    """Describe what was measured, and with what."""
    each = "one a request" if findings.images_per_request == 1 else f"{findings.images_per_request} a request"
    if findings.sizes:
        images = f"{number(findings.images, 'image')} of {findings.sizes.mean / 1000:.3g} kB on average"
        yield f"Measured on this machine with {images}, {each}, and {findings.model}"
    if findings.alone:
        images, alone = number(findings.images_per_request, "image"), milliseconds(findings.alone.p50_s)
        yield f"A request with {images} takes {alone} if the service is otherwise idle"
    if findings.asked_s is None and math.isfinite(findings.bound_s):
        yield (
            f"No --p99-ms was given, so the goal is the most images a second, with 99 % of the answers within "
            f"{milliseconds(findings.bound_s)}: ten times a single request, and at least 0.5 s"
        )
    elif math.isfinite(findings.bound_s):
        bound = milliseconds(findings.bound_s)
        yield f"The goal is the most images a second with 99 % of the answers within {bound} (--p99-ms)"


def found(findings: Findings) -> Iterator[str]:
    """Describe the peak of the chosen settings, and the loads within the bound."""
    peak, each = findings.peak, findings.images_per_request
    if not findings.chosen or not peak:
        return
    yield (
        f"Peak: {rate(peak.answered, each)}, with {number(peak.clients, 'client')} that each wait for the answer "
        f"before they send the next request; 99 % of the answers came within {milliseconds(peak.p99_s)}"
    )
    if findings.asked_s is None or not findings.proof:
        return
    bound, proof = f"With 99 % of the answers within {milliseconds(findings.bound_s)}", findings.proof
    more = next((seen for seen in sorted(findings.closed_loop, key=_clients) if seen.clients > proof.clients), None)
    beyond = _beyond(more, number(more.clients, "client") if more else "")
    yield (
        f"{bound}: {rate(proof.answered, each)} to {number(proof.clients, 'client')} that each wait for the answer"
        f"{beyond}"
    )
    most, many = findings.most_open, findings.too_many
    at_random = f"{bound}, and requests at random times, as many independent users send them"
    if most:
        beyond = _beyond(many, rate(many.offered, each) if many else "")
        yield f"{at_random}: {rate(most.offered, each)}{beyond}"
    elif many:
        yield (
            f"{at_random}: less than {rate(many.offered, each)}; requests that come at the same moment wait for "
            "each other"
        )


def _clients(seen: LoadResult) -> int:
    return seen.clients


def _beyond(seen: LoadResult | None, load: str) -> str:
    if seen is None:
        return "; more was not tried"
    return f"; with {load}, 99 % took up to {milliseconds(seen.p99_s)}"


def recommended(findings: Findings) -> Iterator[str]:
    """Describe the recommendation, and how sure it is."""
    result, predicted = findings.comparison, findings.predicted
    if not findings.chosen or not findings.present:
        return
    now = in_words(findings.present)
    if not result or not predicted:
        yield f"Recommended: keep the present settings ({now}); no others are expected to answer more"
        return
    runs = min(len(findings.of(findings.present)), len(findings.of(predicted)))
    figures = f"{result.predicted:.3g} against {result.present:.3g} images/s within {milliseconds(findings.bound_s)}"
    sure = f"each was measured {number(runs, 'time')}; differences below {result.noise:.0%} may be chance"
    if result.noise > MEANINGLESS_NOISE_SHARE:
        sure += ": this machine was too unsteady to tell settings apart"
    if result.is_better:
        yield (
            f"Recommended: {in_words(predicted)}. They answer {result.gain:.0%} more than the present settings "
            f"({now}): {figures}; {sure}"
        )
        return
    yield (
        f"Recommended: keep the present settings ({now}). The predicted ones ({in_words(predicted)}) "
        f"{_against(result)}: {figures}; {sure}"
    )


def _against(result: Comparison) -> str:
    if result.gain > result.noise:
        return f"answered {result.gain:.0%} more, but fewer images at full load"
    if abs(result.gain) < 0.005:
        return "answered as much"
    return f"answered {abs(result.gain):.0%} {'more, which is too little to be sure' if result.gain > 0 else 'less'}"


def limits(findings: Findings) -> Iterator[str]:
    """Describe the written limits, and that they refuse none of the measured clients."""
    written, proof, present = findings.written, findings.proof, findings.present
    if not written or not proof or not present:
        return
    kept = (
        "stays"
        if written.max_queue_wait_s == present.max_queue_wait_s
        else f"was {present.max_queue_wait_s:g} and becomes"
    )
    yield (
        f"max_queue_wait_s {kept} {written.max_queue_wait_s:g}: a request that would wait longer is refused (503, "
        f"Retry-After). With it, {number(proof.clients, 'client')} sent {number(proof.requests, 'request')}; "
        f"{'none was' if not proof.refused else f'{proof.refused} were'} refused"
    )
    if written.max_queue_wait_s < present.max_queue_wait_s:
        most = int(written.max_queue_wait_s * proof.answered / findings.images_per_request)
        if most > proof.clients:
            yield (
                f"With more than about {number(most, 'client')} at a time, some requests are refused rather than "
                "answered too late. Without --p99-ms, they wait instead"
            )


def cautions(findings: Findings) -> Iterator[str]:
    """Describe what makes the figures less sure or less general."""
    if findings.unreadable:
        were, them = ("file was", "it") if len(findings.unreadable) == 1 else ("files were", "them")
        yield (
            f"{len(findings.unreadable)} {were} left out, because the service would refuse {them}; the first: "
            f"{findings.unreadable[0]}"
        )
    if findings.images < FEW_IMAGES and findings.images:
        yield (
            f"Only {number(findings.images, 'image')} {'was' if findings.images == 1 else 'were'} measured: the result "
            "holds for images of this kind and size, and no others"
        )
    speeds = [trial.speed for trial in findings.trials]
    if findings.busy_before > BUSY_SHARE:
        yield (
            f"Before the run, other programs used {findings.busy_before:.0%} of the cores, so the figures are those of "
            "a busy machine; run it again when nothing else computes"
        )
    elif speeds and max(speeds) > (1 + UNSTEADY_SPREAD_SHARE) * min(speeds):
        yield (
            f"The machine was up to {max(speeds) / min(speeds) - 1:.0%} faster at one time than at another, as the "
            "model alone showed; run it again when nothing else computes"
        )
    yield from _of_the_clients(findings)
    yield from findings.too_large


def _of_the_clients(findings: Findings) -> Iterator[str]:
    peak, cores = findings.peak, findings.costs.cores if findings.costs else 0
    if not peak or not cores:
        return
    if peak.clients_cores > 0.9:
        yield "The clients of this measurement were as busy as one process can be; the service may do more"
    elif not findings.others_cores and peak.clients_cores > CLIENTS_SHARE * cores:
        yield (
            f"The clients of this measurement ran on the service's own cores and took {peak.clients_cores / cores:.0%} "
            "of them; with clients on other machines, the service does about that much more"
        )


def said(findings: Findings) -> Iterator[tuple[str, Sequence[str]]]:
    """Group all sentences under headings; headings without sentences are left out."""
    sections = (
        ("What was measured", [*measured(findings)]),
        ("What was found", [*found(findings), *_transform(findings), *findings.advice, *_verdict(findings)]),
        ("What to do", [*recommended(findings), *limits(findings)]),
        ("How sure this is", [*cautions(findings)]),
    )
    return ((heading, lines) for heading, lines in sections if lines)


def _transform(findings: Findings) -> Iterator[str]:
    if findings.transform:
        yield from gain(findings.transform)


def _verdict(findings: Findings) -> Iterator[str]:
    if findings.verdict:
        yield f"The service itself said, during the last load: {findings.verdict}"
