"""Tests of the sandbox: a worker can decode and do nothing else. Every attempt is made in a real worker."""

import os
import re
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from PIL import Image

from harness.photographs import encoded, photograph
from pipeline.decode import sandbox
from pipeline.decode.sandbox import ALL_CLOSED
from pipeline.errors import ImageError
from pipeline.images.decode import decode
from pipeline.live_limits import Limits
from pipeline.records import Rejection, Transform
from tests.support.decode_bench import CAT, TRANSFORM, Bench, brightness, errors, outcomes, started
from tests.support.image_files import BAD
from tests.support.takeover import Act, TakenOver, order, replica


def open_a_file() -> None:
    os.close(os.open("/etc/passwd", os.O_RDONLY))


def open_the_replicas_environment() -> None:
    os.close(os.open(f"/proc/{replica()}/environ", os.O_RDONLY))


def list_a_folder() -> None:
    os.listdir("/")


def write_a_file() -> None:
    os.close(os.open("/tmp/darkroom-written", os.O_CREAT | os.O_WRONLY))  # noqa: S108 - is never created


def change_a_files_rights() -> None:
    os.chmod("/tmp", 0o777)  # noqa: S103, S108 - its mode already


def open_a_tcp_socket() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()


def open_a_udp_socket() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()


def open_a_local_socket() -> None:
    """Connect to a local socket, by which the forkserver would start a process outside the sandbox."""
    socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).close()


def signal_the_replica() -> None:
    os.kill(replica(), 0)


def signal_the_forkserver() -> None:
    os.kill(os.getppid(), 0)


def limit_the_replica() -> None:
    resource.prlimit(replica(), resource.RLIMIT_NOFILE)


def slow_the_replica_down() -> None:
    os.setpriority(os.PRIO_PROCESS, replica(), 19)


def fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def run_a_program() -> None:
    os.execv("/bin/true", ["true"])  # noqa: S606


REFUSED: list[Act] = [
    open_a_file,
    open_the_replicas_environment,
    list_a_folder,
    write_a_file,
    change_a_files_rights,
    open_a_tcp_socket,
    open_a_udp_socket,
    open_a_local_socket,
    signal_the_replica,
    signal_the_forkserver,
    limit_the_replica,
    slow_the_replica_down,
    fork,
    run_a_program,
]


def _attempt(act: Act) -> str:
    try:
        act()
    except OSError as error:
        return type(error).__name__
    return "done"


def attempt_all() -> str:
    """Make all attempts, for one image; return the names of those that were not refused."""
    came = {act.__name__: _attempt(act) for act in REFUSED}
    return " ".join(f"{name}={how}" for name, how in came.items() if how != "PermissionError") or "all were refused"


def attempt_one() -> str:
    return _attempt(open_a_file)


def start_a_thread() -> str:
    """Start a thread, as decoders of WebP and AVIF do."""
    heard: list[str] = []
    thread = threading.Thread(target=lambda: heard.append("heard"))
    thread.start()
    thread.join()
    return heard[0]


def forget_landlock() -> None:
    """Make this process treat its kernel as one without Landlock."""
    vars(sandbox)["landlock_version"] = int


KERNELS = {"with Landlock": None, "without Landlock": forget_landlock}
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF")
ALL_FORMATS = replace(TRANSFORM, formats=FORMATS)


@pytest.fixture(scope="module", params=KERNELS)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    transform = TakenOver(
        cast(Act, attempt_all), cast(Act, start_a_thread), transform=ALL_FORMATS, arriving=KERNELS[request.param]
    )
    with started(1, transform=cast(Transform, transform)) as bench:
        yield bench


def _said(bench: Bench, act: Callable[[], str]) -> str:
    (outcome,) = outcomes(bench.submit([order(cast(Act, act))]))
    assert isinstance(outcome, Rejection)
    return str(outcome.error)


def test_files_sockets_and_other_processes_are_refused(bench: Bench) -> None:
    """Every access to files, sockets and other processes is refused, on a kernel without Landlock by seccomp alone."""
    assert _said(bench, attempt_all) == "all were refused"
    assert bench.stage.closed_to_workers == ALL_CLOSED
    assert str(ALL_CLOSED) == "no new privileges, no files, no network, no other processes"


def test_what_decoding_needs_is_left(bench: Bench) -> None:
    """Every format decodes in the sandbox as it does outside, orientation included, and threads can start."""
    picture = photograph("cat")
    exif = Image.Exif()
    exif[0x0112] = 6
    files = [encoded(picture, name, **({"exif": exif} if name not in ("GIF", "BMP") else {})) for name in FORMATS]
    inside = [brightness(outcome) for outcome in outcomes(bench.submit(files))]
    outside = [float(decode(memoryview(file), ALL_FORMATS, 10**7).mean()) for file in files]
    assert inside == pytest.approx(outside, abs=1e-3)
    assert _said(bench, start_a_thread) == "heard"


def test_bad_files_keep_their_errors(bench: Bench) -> None:
    """Bad files get the same errors as outside.

    No import is left for later: it would fail and be blamed on the image.
    """
    files = [file for file, _ in BAD.values()]
    inside = [str(one.error) if isinstance(one, Rejection) else "" for one in outcomes(bench.submit(files))]
    assert inside == [_error(file) for file in files]


def _error(file: bytes) -> str:
    try:
        decode(memoryview(file), ALL_FORMATS, Limits().max_image_pixels)
    except ImageError as error:
        return str(error)
    return ""


def test_a_worker_has_no_more_descriptors_than_it_needs(bench: Bench) -> None:
    """A worker has no descriptors of the forkserver, the resource tracker, or the replica's sockets."""
    (pid,) = bench.stage.pids
    links = {path.name: os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}
    console = {links[name] for name in "012"}
    kinds = sorted(re.split(r"[:(]", link)[0] for link in links.values() if link not in console)
    own = f"/proc/{pid}/statm"
    assert kinds == ["/memfd", "/memfd", own, "pipe", "pipe", "socket", "socket"]  # 2 of slots, jobs, event, queues


def test_a_worker_has_no_privileges(bench: Bench) -> None:
    """A worker has no privileges, even where the service runs as root."""
    (pid,) = bench.stage.pids
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert [int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh")] == [0, 0, 0]


def forget_everything() -> None:
    """Make this process treat its kernel as one that offers no other protection."""
    forget_landlock()
    vars(sandbox)["refuse_system_calls"] = lambda *, files: False  # noqa: ARG005


def test_a_kernel_that_closes_little_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """A kernel that offers little protection is reported in one line, and images are answered all the same."""
    transform = TakenOver(cast(Act, attempt_one), arriving=forget_everything)
    with started(1, transform=cast(Transform, transform)) as bench:
        assert _said(bench, attempt_one) == "done"
        assert errors(bench.submit([CAT])) == [None]
        assert str(bench.stage.closed_to_workers) == "no new privileges"
    assert [record.getMessage() for record in caplog.records] == [
        "this kernel supports only part of the sandbox for decoder processes: no new privileges"
    ]
