"""One run of `darkroom tune`: which images, what is shown while it runs, and what is left at its end."""

import datetime
import os
import platform
import random
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from commands.ending import FAILED, INTERRUPTED, REFUSED, say
from commands.files import NothingToDo, listed, read, shown
from commands.steps import StepsBar
from deployments.access import KEYS_VARIABLE
from deployments.endpoint import StartError
from deployments.version import version_of
from pipeline.errors import ImageError, ServerError
from tuning.document import diff, first_application, with_settings
from tuning.findings import Findings
from tuning.plan import FULL, QUICK


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was typed."""

    config: Path
    images: Path
    bound_s: float
    report: Path
    seed: int
    write: bool
    quick: bool


def tuned(wanted: Wanted, document: dict[str, Any]) -> int:
    """Runs it, says what has come of it, and returns the exit status.

    Args:
        wanted: what was typed.
        document: the configuration, in which nothing is wrong.

    Raises:
        NothingToDo: there are no images.
        StartError: the configuration or the report cannot be written.
    """
    from tuning.forecast import Refused
    from tuning.launched import ServiceFailed
    from tuning.subject import pin, subject_of
    from tuning.tuning import Tuning

    _check_writable(wanted.report, *([wanted.config] if wanted.write else []))
    text, plan = wanted.config.read_text(), QUICK if wanted.quick else FULL
    os.environ.pop(KEYS_VARIABLE, None)  # the service that is checked is open, on loopback
    subject = subject_of(document, first_application(document), {})
    images, unread = _sample(wanted, subject.config.pipeline.formats, subject.live.max_image_bytes, plan.images)
    pin(subject.cores)
    findings = _blank(wanted, subject.config.pipeline.model, [*_machine(subject.cores, subject.config.pipeline.device)])
    findings.unreadable = unread
    bar = StepsBar()
    try:
        with bar, Tuning(subject, images, plan, findings) as tuning:
            tuning.run(bar.tell)
            assert findings.chosen is not None  # noqa: S101 - the run has come to its end
            after = with_settings(text, findings.chosen)
            findings.diff = diff(wanted.config, text, after)
            _leave(wanted, findings)  # while the service stops
    except KeyboardInterrupt:
        findings.stopped = f"it was stopped at: {bar.title}"
        return _ended(wanted, findings)
    except Refused as error:
        say(str(error))
        return REFUSED
    except (ServerError, ServiceFailed) as error:
        say(str(error))
        return FAILED
    return _finished(wanted, findings, text, after)


def _check_writable(*paths: Path) -> None:
    for path in paths:
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise StartError(f"cannot write {path}; nothing was measured")


def _sample(wanted: Wanted, formats: tuple[str, ...], max_bytes: int, count: int) -> tuple[dict[str, bytes], list[str]]:
    """Some of the images, by their names; and the files among them that cannot be read, with the reason."""
    files = listed([str(wanted.images)], formats, sys.stdin.buffer)
    images, unread = dict[str, bytes](), list[str]()
    for file in random.Random(wanted.seed).sample(files, min(len(files), count)):  # noqa: S311 - not for secrets
        try:
            images[shown(file)] = read(file, max_bytes)
        except ImageError as error:
            unread.append(f"{shown(file)}: {error}")
    if not images:
        raise NothingToDo(f"no image can be read: {unread[0]}")
    return images, unread


def _blank(wanted: Wanted, model: str, machine: list[str]) -> Findings:
    return Findings(
        command=shlex.join(["darkroom", *sys.argv[1:]]),
        date=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        bound_s=wanted.bound_s,
        seed=wanted.seed,
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


def _ended(wanted: Wanted, findings: Findings) -> int:
    _leave(wanted, findings)
    say(f"stopped; nothing is changed, and what was found so far is in {wanted.report}")
    return INTERRUPTED


def _finished(wanted: Wanted, findings: Findings, before: str, after: str) -> int:
    from tuning.report import summary

    if wanted.write and findings.diff:
        _replace(wanted.config, before, after)
    sys.stdout.write("".join(f"{sentence}\n" for sentence in summary(findings)) + f"\n{findings.diff}")
    sys.stdout.flush()
    if not findings.diff:
        done = f"{wanted.config} has these settings already"
    elif wanted.write:
        done = f"{wanted.config} has been changed"
    else:
        done = f"nothing is changed; --write writes this into {wanted.config}"
    say(f"{done}; the report is {wanted.report}")
    return 0


def _leave(wanted: Wanted, findings: Findings) -> None:
    from tuning.report import write_report

    write_report(wanted.report, findings)


def _replace(config: Path, before: str, after: str) -> None:
    """At once, and only where nobody else has changed it meanwhile."""
    if config.read_text() != before:
        raise StartError(f"{config} was changed while this ran; it is left as it is")
    with tempfile.NamedTemporaryFile("w", dir=config.parent, prefix=".tune-", delete=False) as file:
        file.write(after)
    os.chmod(file.name, config.stat().st_mode)
    os.replace(file.name, config.resolve())
