"""Start and end of the compared servers, and their processes."""

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import httpx
import psutil

from harness.broken_images import photographs
from harness.marked_program import MarkedProgram
from harness.ports import apart, free_port
from harness.repository import PEERS
from harness.target import Form, Target

START_TIMEOUT_S: Final = 300.0
STOP_TIMEOUT_S: Final = 15.0

Role = Literal["decoder", "model"]


@dataclass(frozen=True, slots=True)
class ServerKind:
    """A compared server, with its command and request forms.

    Args:
        name: name of the product.
        path: URL path for images.
        wrap: one image -> the body of a request.
        command: port and a private folder -> command line.
        plays: returns whether a process has a role: decoding, running the model, or both.
        many: many images -> the body of one request, if the server accepts such requests.
        environment: environment variables, in addition to those of the benchmark.
    """

    name: str
    path: str
    wrap: Callable[[bytes], Form]
    command: Callable[[int, Path], list[str]]
    plays: Callable[[psutil.Process, Role], bool]
    many: Callable[[list[bytes]], Form] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


class Server:
    """A running server."""

    def __init__(self, kind: ServerKind, port: int, program: MarkedProgram) -> None:
        self.kind, self.name = kind, kind.name
        self.target = Target("127.0.0.1", port, kind.path, kind.wrap)
        self._program = program
        self._cpu_s = dict[psutil.Process, float]()  # of each process, at its last reading

    def processes(self) -> list[psutil.Process]:
        """Return the processes of the server."""
        return self._program.processes()

    def players(self, role: Role) -> list[psutil.Process]:
        """List the processes with that role, the oldest first."""
        found = []
        for process in self.processes():
            with suppress(psutil.Error):
                if self.kind.plays(process, role):
                    found.append((process.create_time(), process))
        return [process for _, process in sorted(found, key=lambda pair: pair[0])]

    def cpu_s(self) -> float:
        """Return the processor time of all processes; for ended ones, their last reading."""
        for process in self.processes():
            with suppress(psutil.Error):
                times = process.cpu_times()
                self._cpu_s[process] = times.user + times.system
        return sum(self._cpu_s.values())

    def answers(self) -> bool:
        """Return whether the server gives a prediction now."""
        form = self.kind.wrap(photographs()[0])
        try:
            headers = {"Content-Type": form.content_type}
            response = httpx.post(self.target.url, content=form.body, headers=headers, timeout=10, trust_env=False)
        except httpx.TransportError:
            return False
        return response.status_code == httpx.codes.OK


@contextmanager
def running(kind: ServerKind, say: Callable[[str], None]) -> Iterator[Server]:
    """Start a server on a free port and wait until it answers; after the block none of its processes is left."""
    port, log = free_port(), PEERS / "logs" / f"{kind.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="darkroom-server-") as folder:
        with log.open("ab") as sink:
            program = MarkedProgram(kind.command(port, Path(folder)), {**apart(), **kind.environment}, sink)
        server = Server(kind, port, program)
        try:
            _wait_until_ready(server, program.leader, log)
            yield server
        finally:
            if killed := program.end(STOP_TIMEOUT_S):
                say(f"{kind.name} is ended by force: {killed} processes are left after SIGINT")


def _wait_until_ready(server: Server, leader: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not server.answers():
        if leader.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{server.name} has not started:\n{log.read_text(errors='replace')[-4000:]}")
        time.sleep(0.2)
