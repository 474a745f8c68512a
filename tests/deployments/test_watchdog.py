"""Tests of the watchdog process that ends a stopped or hanging replica. A small program stands in for the replica."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from textwrap import dedent

import psutil
import pytest

from deployments import watchdog_process
from deployments.watchdog import Watchdog
from harness.repository import ROOT
from pipeline.decode.process_state import state_of
from tests.support.waiting import PATIENCE_S, until

PROGRAM = dedent(
    """
    import asyncio, pathlib, sys, time
    from deployments.watchdog import Watchdog

    async def main():
        watchdog = Watchdog(hung_after_s=1.0, log=next(map(pathlib.Path, sys.argv[2:]), None))
        print(watchdog._process.pid, flush=True)
        beating = asyncio.create_task(watchdog.run()) if "beats" in sys.argv else None
        while (line := await asyncio.to_thread(sys.stdin.readline).strip()) != "hang":
            print("well", flush=True)
        time.sleep(600)

    asyncio.run(main())
    """
).replace("asyncio.to_thread(sys.stdin.readline).strip()", "asyncio.to_thread(lambda: sys.stdin.readline().strip())")


class WatchedReplica:
    """A program that stands in for a replica, and its watchdog.

    Attributes:
        watchdog: the watchdog's process.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.watchdog = psutil.Process(int(self._line()))

    def _line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline()

    def say(self, word: str) -> None:
        """Send a command to the program."""
        assert self.process.stdin
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def answers(self) -> bool:
        """Return whether the program responds."""
        self.say("how are you")
        return self._line() == "well\n"

    def end(self) -> tuple[int, str]:
        """Wait for the program's end; return its status and its standard error."""
        _, said = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, said


@contextmanager
def running(*options: str) -> Iterator[WatchedReplica]:
    """Run a replica with its watchdog; afterwards neither of them is left."""
    command = [sys.executable, "-c", PROGRAM, *options]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:  # type: ignore[call-overload]
        replica = WatchedReplica(process)
        try:
            yield replica
        finally:
            process.kill()
    until(lambda: not replica.watchdog.is_running())


def test_a_replica_that_is_stopped_is_ended() -> None:
    """A stopped replica is killed by its watchdog, also before its event loop has sent a heartbeat."""
    with running() as replica:
        assert replica.answers()
        replica.process.send_signal(signal.SIGSTOP)
        status, said = replica.end()
        assert status == -signal.SIGKILL
        assert f"replica {replica.process.pid} is killed: it was stopped (SIGSTOP)" in said


def test_a_replica_whose_event_loop_hangs_is_ended(tmp_path: Path) -> None:
    """A replica whose event loop hangs is killed. The reason is in its log file, with no help of the replica."""
    log = tmp_path / "replica.err"
    log.write_text("before\n")
    with running("beats", str(log)) as replica:
        assert replica.answers()
        replica.say("hang")
        status, said = replica.end()
        assert (status, said) == (-signal.SIGKILL, "")
        assert log.read_text().startswith(f"before\ndarkroom: replica {replica.process.pid} is killed: its event loop")


@pytest.mark.parametrize("log", ["replica.err", "gone/replica.err"])
def test_a_watchdog_does_not_hold_the_output_of_its_replica(log: str, tmp_path: Path) -> None:
    """The output of a process that has ended is complete, although its watchdog is still there.

    A worker of Ray's would never end otherwise.
    """
    (tmp_path / "replica.err").touch()
    program = dedent(
        """
        import os, pathlib, signal, sys
        from deployments.watchdog import Watchdog
        watchdog = Watchdog(log=pathlib.Path(sys.argv[1]))
        print(watchdog._process.pid)
        os.kill(watchdog._process.pid, signal.SIGSTOP)
        """
    )
    command = [sys.executable, "-c", program, str(tmp_path / log)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    psutil.Process(int(ended.stdout)).kill()


def test_a_replica_whose_log_cannot_be_written_is_watched_all_the_same(tmp_path: Path) -> None:
    watchdog = Watchdog(log=tmp_path / "gone" / "replica.err")
    try:
        assert psutil.pid_exists(watchdog._process.pid)
    finally:
        watchdog.close()


def test_a_replica_whose_event_loop_has_never_run_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that is still starting is left alone, however long its start takes."""
    monkeypatch.setattr(watchdog_process, "CHECK_PERIOD_S", 0.001)
    reader, writer = os.pipe()
    states = iter([*["S"] * 100, None])

    def state(_: int) -> str:
        if (letter := next(states)) is None:
            os.close(writer)
            return "S"
        return letter

    monkeypatch.setattr(watchdog_process, "state_of", state)
    pidfd = os.pidfd_open(os.getpid())
    assert watchdog_process.watch(os.getpid(), pidfd, reader, 0.01) == ""
    os.close(reader)
    os.close(pidfd)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_watchdog_that_ends_or_is_stopped_is_replaced(number: signal.Signals) -> None:
    """A watchdog that ends or is stopped is replaced at the next heartbeat of the replica's event loop."""
    watchdog = Watchdog()
    try:
        before = watchdog._process.pid
        os.kill(before, number)
        until(lambda: state_of(before) in ("Z", "T"))

        def is_replaced() -> bool:
            watchdog.beat()
            return watchdog._process.pid != before

        until(is_replaced)
        assert state_of(watchdog._process.pid) not in ("Z", "T")  # the state is D while the process reads its modules
    finally:
        watchdog.close()
        watchdog.close()


def test_a_watchdog_that_cannot_be_started_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While no process can be started, the replica goes on without a watchdog, and tells it once."""
    monkeypatch.setattr("deployments.watchdog._BEAT_PERIOD_S", 0.01)
    attempts = list[object]()

    def no_process(*command: object, **_: object) -> None:
        attempts.append(command)
        raise OSError("Resource temporarily unavailable")

    async def beating(watchdog: Watchdog) -> None:
        task = asyncio.create_task(watchdog.run())
        await asyncio.to_thread(until, lambda: len(attempts) > 2)
        start.undo()
        before = watchdog._process.pid
        await asyncio.to_thread(until, lambda: watchdog._process.pid != before)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    watchdog = Watchdog()
    try:
        with pytest.MonkeyPatch.context() as start:
            start.setattr("deployments.watchdog.subprocess.Popen", no_process)
            watchdog._process.kill()
            until(lambda: state_of(watchdog._process.pid) == "Z")
            asyncio.run(beating(watchdog))
        assert state_of(watchdog._process.pid) not in ("", "Z", "T")
    finally:
        watchdog.close()
    assert caplog.text.count("no watchdog can be started for now: Resource temporarily unavailable") == 1
    assert caplog.text.count("has ended; starting another") == 1
