"""One run of `darkroom tune`: its images, the progress that is shown, the result and the report."""

import datetime
import os
import platform
import random
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from commands.ending import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_REFUSED, say
from commands.files import NothingToDo, listed, read, shown
from commands.steps import StepsBar
from deployments.checks.chosen_application import chosen_application
from deployments.http.auth import KEYS_VARIABLE
from deployments.live_config import LiveConfig
from deployments.local.endpoint import StartError
from deployments.version import version_of
from pipeline.errors import ImageError, ServerError
from tuning.document import diff, with_settings
from tuning.findings import Findings
from tuning.other_programs import busy_with_others
from tuning.plan import Plan

_OTHERS_MEASURED_FOR_S: Final = 0.5
"""Seconds in which the load of other programs is measured before the run."""


@dataclass(frozen=True, slots=True)
class TuningRequest:
    """Options of the command."""

    config: Path
    images: str
    bound_s: float | None
    images_per_request: int  # images a request
    report: Path
    seed: int
    write: bool
    application: str | None  # None for the only one


def run_tuning(wanted: TuningRequest, document: dict[str, Any]) -> int:
    """Run the tuning, print the result and return the exit status.

    Args:
        wanted: the options.
        document: the configuration, checked already.

    Raises:
        NothingToDo: there are no images.
        StartError: the configuration cannot be written, or does not allow so many images a request.
    """
    from harness.local_service import ServiceFailed
    from tuning.forecast import Refused
    from tuning.tuned_config import keep_to_cores, tuned_config
    from tuning.tuning_run import TuningRun

    if wanted.write:
        _check_writable(wanted.config)
    text, plan = wanted.config.read_text(), Plan()
    os.environ.pop(KEYS_VARIABLE, None)  # the measured service needs no key, as it is on loopback
    tuned = tuned_config(document, chosen_application(document, wanted.application)[1], {})
    images, unread = _sample(wanted, tuned.config.pipeline.formats, tuned.live.max_image_bytes, plan.images)
    _check_images_per_request(wanted.images_per_request, images, tuned.live)
    findings = _blank(wanted, tuned.config.pipeline.model, [*_machine(tuned.cores, tuned.config.pipeline.device)])
    findings.unreadable, findings.busy_before = unread, busy_with_others(_OTHERS_MEASURED_FOR_S)
    others, bar = keep_to_cores(tuned.cores), StepsBar()
    try:
        with bar, TuningRun(tuned, images, plan, findings, others) as tuning:
            tuning.run(bar.tell)
            assert findings.written is not None  # noqa: S101 - the run is complete
            after = with_settings(text, findings.written, tuned.present, application=wanted.application)
            findings.diff = diff(wanted.config, text, after)
            left = _report(wanted, findings)  # while the service stops
    except KeyboardInterrupt:
        findings.stopped = f"Not finished: it was stopped at: {bar.title}"
        say(f"stopped; nothing was changed. {_report(wanted, findings)}")
        return EXIT_INTERRUPTED
    except Refused as error:
        findings.stopped = f"{error}."
        say(f"{error}. {_report(wanted, findings)}" if findings.costs else str(error))
        return EXIT_REFUSED
    except (ServerError, ServiceFailed) as error:
        say(str(error))
        return EXIT_FAILED
    return _finished(wanted, findings, text, after, left)


def _check_writable(config: Path) -> None:
    if not os.access(config, os.W_OK) or not os.access(config.resolve().parent, os.W_OK):
        raise StartError(f"cannot write {config} or its folder, which --write needs; nothing was measured")


def _check_images_per_request(images_per_request: int, images: Mapping[str, bytes], live: LiveConfig) -> None:
    """Raise StartError if the configuration refuses requests with this number of images."""
    if images_per_request > live.max_images_per_request:
        raise StartError(
            f"--images-per-request {images_per_request} is above max_images_per_request: "
            f"{live.max_images_per_request}; write a larger one into the configuration, or give fewer"
        )
    request_bytes = images_per_request * sum(map(len, images.values())) // len(images)
    if request_bytes > live.max_request_bytes:
        raise StartError(
            f"--images-per-request {images_per_request} makes requests of {request_bytes} bytes with these images, "
            f"above max_request_bytes: {live.max_request_bytes}; write a larger one into the configuration, or give "
            "fewer"
        )


def _sample(
    wanted: TuningRequest, formats: tuple[str, ...], max_bytes: int, count: int
) -> tuple[dict[str, bytes], list[str]]:
    """Read a random sample of the images, by name; return also the unreadable files with the reason."""
    files = listed([wanted.images], formats, sys.stdin.buffer)
    images, unread = dict[str, bytes](), list[str]()
    for file in random.Random(wanted.seed).sample(files, min(len(files), count)):  # noqa: S311 - not for secrets
        try:
            images[shown(file)] = read(file, max_bytes)
        except ImageError as error:
            unread.append(f"{shown(file)}: {error}")
    if not images:
        what = (
            "the image cannot be read" if len(unread) == 1 else f"none of {len(unread)} images can be read; the first"
        )
        raise NothingToDo(f"{what}: {unread[0]}")
    return images, unread


def _blank(wanted: TuningRequest, model: str, machine: list[str]) -> Findings:
    return Findings(
        command=shlex.join(["darkroom", *sys.argv[1:]]),
        date=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        asked_s=wanted.bound_s,
        seed=wanted.seed,
        images_per_request=wanted.images_per_request,
        machine=machine,
        model=model,
    )


def _machine(cores: int, device: str) -> Iterator[str]:
    memory_gib = psutil.virtual_memory().total / (1 << 30)
    yield f"{cores} of {os.cpu_count()} cores for a replica, device {device}, {memory_gib:.0f} GiB of memory"
    packages = ("darkroom", "ray", "torch", "torchvision", "pillow")
    yield f"Python {platform.python_version()}, " + ", ".join(
        f"{package} {version_of(package)}" for package in packages
    )


def _finished(wanted: TuningRequest, findings: Findings, before: str, after: str, left: str) -> int:
    from tuning.screen import screen

    if wanted.write and findings.diff:
        _replace(wanted.config, before, after)
    sys.stdout.write(f"{screen(findings)}\n{findings.diff}")
    sys.stdout.flush()
    if not findings.diff:
        done = f"nothing has to be changed in {wanted.config}"
    elif wanted.write:
        done = f"{wanted.config} has been changed; a service that runs takes it by `serve deploy {wanted.config}`"
    else:
        done = f"nothing was changed; the same command with --write makes the changes above in {wanted.config}"
    say(f"{done}. {left}")
    return 0


def _report(wanted: TuningRequest, findings: Findings) -> str:
    """Write the report; return a sentence that says where it is, or why it is missing."""
    from tuning.html_report import write_report

    try:
        write_report(wanted.report, findings)
    except OSError as error:
        return f"The report could not be written to {shown(str(wanted.report))}: {error.strerror}"
    return f"The report is {shown(str(wanted.report))}"


def _replace(config: Path, before: str, after: str) -> None:
    """Replace the configuration atomically, unless somebody else has changed it."""
    if config.read_text() != before:
        raise StartError(f"{config} was changed while this ran; it is left as it is")
    with tempfile.NamedTemporaryFile("w", dir=config.parent, prefix=".tune-", delete=False) as file:
        file.write(after)
    os.chmod(file.name, config.stat().st_mode)
    os.replace(file.name, config.resolve())
