"""The servers: how each is started, told from everything else on the machine, and ended."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

import httpx
import psutil
import yaml

from benchmarks.clients import Form, Target
from benchmarks.images import photographs
from benchmarks.ports import apart, free_port

ROOT: Final = Path(__file__).parent.parent
PEERS: Final = ROOT / ".cache" / "peers"

START_TIMEOUT_S: Final = 300.0
STOP_TIMEOUT_S: Final = 15.0

_MARK: Final = "DARKROOM_BENCHMARK"
"""In the environment of all that a server has started, at whatever remove."""

Role = Literal["decoder", "model"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the servers compared.

    Args:
        name: as it calls itself.
        path: that takes images.
        wrap: one image -> the body of a request.
        command: port and a folder of its own -> what starts it.
        plays: whether a process decodes, or runs the model; both where one process does both.
        many: many images -> the body of one request, where it takes such.
        environment: of its processes, beside that of the benchmark.
    """

    name: str
    path: str
    wrap: Callable[[bytes], Form]
    command: Callable[[int, Path], list[str]]
    plays: Callable[[psutil.Process, Role], bool]
    many: Callable[[list[bytes]], Form] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


class Server:
    """A running one."""

    def __init__(self, kind: Kind, port: int, mark: str) -> None:
        self.kind, self.name = kind, kind.name
        self.target = Target("127.0.0.1", port, kind.path, kind.wrap)
        self._mark = mark

    def processes(self) -> list[psutil.Process]:
        """All its processes."""
        return [process for process in psutil.process_iter() if _environment(process).get(_MARK) == self._mark]

    def players(self, role: Role) -> list[psutil.Process]:
        """Its processes with that role, the oldest first."""
        found = []
        for process in self.processes():
            with suppress(psutil.Error):
                if self.kind.plays(process, role):
                    found.append((process.create_time(), process))
        return [process for _, process in sorted(found, key=lambda pair: pair[0])]

    def cpu_s(self) -> float:
        """Processor time that its living processes have used."""
        used_s = 0.0
        for process in self.processes():
            with suppress(psutil.Error):
                times = process.cpu_times()
                used_s += times.user + times.system
        return used_s

    def answers(self) -> bool:
        """Whether it gives a prediction now."""
        form = self.kind.wrap(photographs()[0])
        try:
            headers = {"Content-Type": form.content_type}
            response = httpx.post(self.target.url, content=form.body, headers=headers, timeout=10, trust_env=False)
        except httpx.TransportError:
            return False
        return response.status_code == httpx.codes.OK


class Memory:
    """Watches how much a server has resident, from a thread; a context manager.

    Resident set sizes are added up, so pages that processes share count in each of them.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.before_bytes = self.peak_bytes = 0

    def __enter__(self) -> Self:
        self.before_bytes = self.peak_bytes = _resident_bytes(self._server.processes())
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    @property
    def grown_bytes(self) -> int:
        """The peak, less what there was before."""
        return self.peak_bytes - self.before_bytes

    def _watch(self) -> None:
        looked_at, processes = 0.0, list[psutil.Process]()
        while not self._over.wait(0.05):
            if time.monotonic() - looked_at > 1:  # reading every environment of the machine costs more than the sizes
                looked_at, processes = time.monotonic(), self._server.processes()
            self.peak_bytes = max(self.peak_bytes, _resident_bytes(processes))


@contextmanager
def running(kind: Kind, say: Callable[[str], None]) -> Iterator[Server]:
    """Starts a server on a free port and waits until it answers; after the block none of its processes is left."""
    mark, port = uuid.uuid4().hex, free_port()
    server = Server(kind, port, mark)
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        log = PEERS / "logs" / f"{kind.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, **apart(), **kind.environment, _MARK: mark}
        with log.open("ab") as sink:
            leader = subprocess.Popen(
                kind.command(port, Path(folder)),
                cwd=ROOT,
                env=environment,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the benchmark, which ends the server in order
            )
        try:
            _wait_until_ready(server, leader, log)
            yield server
        finally:
            _end(server, leader, say)


def _wait_until_ready(server: Server, leader: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not server.answers():
        if leader.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{server.name} has not started:\n{log.read_text(errors='replace')[-4000:]}")
        time.sleep(0.2)


def _end(server: Server, leader: subprocess.Popen[bytes], say: Callable[[str], None]) -> None:
    """Asks it to stop as Ctrl-C does; what is left after a while is ended by force."""
    with suppress(ProcessLookupError):
        leader.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        leader.wait(STOP_TIMEOUT_S)
    if left := server.processes():
        say(f"{server.name} is ended by force: {len(left)} processes are left {STOP_TIMEOUT_S:.0f} s after SIGINT")
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=10)
    leader.wait()


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


def _resident_bytes(processes: list[psutil.Process]) -> int:
    pages = 0
    for process in processes:
        with suppress(OSError):
            pages += int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


# ---- the three ------------------------------------------------------------------------------------------------------


def _as_it_is(image: bytes) -> Form:
    return Form("application/octet-stream", image)


def _parts(images: list[bytes], field: str = "image") -> Form:
    boundary = "b0undary-of-the-f4ults"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="image"\r\n\r\n'.encode()
    body = b"".join(head + image + b"\r\n" for image in images) + f"--{boundary}--\r\n".encode()
    return Form(f"multipart/form-data; boundary={boundary}", body)


def _is_spawned(process: psutil.Process) -> bool:
    return "multiprocessing.spawn" in " ".join(process.cmdline())


def _litserve_plays(process: psutil.Process, role: Role) -> bool:  # noqa: ARG001  one process decodes and infers
    return _is_spawned(process)


def _mosec_plays(process: psutil.Process, role: Role) -> bool:
    if not _is_spawned(process):
        return False
    return process.environ().get("STAGE") == {"decoder": "preprocess", "model": "inference"}[role]


def _darkroom_plays(process: psutil.Process, role: Role) -> bool:
    if role == "model":
        return "ServeReplica" in process.name()
    parent = process.parent()
    return parent is not None and "multiprocessing.forkserver" in " ".join(parent.cmdline())


Document = dict[str, Any]


def _darkroom_command(port: int, folder: Path, change: Callable[[Document], None] = lambda _: None) -> list[str]:
    """The shipped configuration on another port, and with what `change` does to its application."""
    document = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    document["http_options"]["port"] = port
    change(document["applications"][0])
    config = folder / "serve_config.yaml"
    config.write_text(yaml.safe_dump(document))
    return [sys.executable, "-m", "deployments.launcher", str(config)]


def darkroom(name: str, change: Callable[[Document], None]) -> Kind:
    """Darkroom under another name, with its application's configuration changed in place."""
    return replace(DARKROOM, name=name, command=lambda port, folder: _darkroom_command(port, folder, change))


def _peer(name: str, *arguments: str) -> list[str]:
    return [str(PEERS / name / "bin" / "python"), str(ROOT / "benchmarks" / "peers" / f"{name}_app.py"), *arguments]


_AS_OTHERS: Final = {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}
"""Ray would start its workers at nice 15, behind the clients."""

_AS_PACKAGE: Final = {"PYTHONPATH": str(ROOT)}
"""A peer's program is run by its path, and imports what the peers share."""


def _in_our_environment(name: str, *arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "benchmarks" / "peers" / f"{name}_app.py"), *arguments]


def _is_ray_replica(process: psutil.Process, role: Role) -> bool:  # noqa: ARG001  one process decodes and infers
    return "ServeReplica" in process.name()


def _is_bentoml_worker(process: psutil.Process, role: Role) -> bool:  # noqa: ARG001  one process decodes and infers
    return "_bentoml_impl.worker" in " ".join(process.cmdline())


LITSERVE: Final = Kind(
    name="LitServe",
    path="/predict",
    wrap=lambda image: _parts([image]),
    command=lambda port, _: _peer("litserve", str(port)),
    plays=_litserve_plays,
    environment=_AS_PACKAGE,
)
MOSEC: Final = Kind(
    name="mosec",
    path="/inference",
    wrap=_as_it_is,
    command=lambda port, _: _peer("mosec", "--address", "127.0.0.1", "--port", str(port)),
    plays=_mosec_plays,
    environment=_AS_PACKAGE,
)
BENTOML: Final = Kind(
    name="BentoML",
    path="/classify",
    wrap=lambda image: _parts([image], "images"),
    command=lambda port, _: [
        str(PEERS / "bentoml" / "bin" / "bentoml"),
        *("serve", "benchmarks.peers.bentoml_app:Classifier", "--host", "127.0.0.1", "--port", str(port)),
    ],
    plays=_is_bentoml_worker,
    environment={**_AS_PACKAGE, "BENTOML_DO_NOT_TRACK": "True"},
)
DARKROOM: Final = Kind(
    name="Darkroom",
    path="/predict",
    wrap=_as_it_is,
    command=_darkroom_command,
    plays=_darkroom_plays,
    many=_parts,
)
RAY_SERVE: Final = Kind(
    name="Ray Serve, batching",
    path="/",
    wrap=_as_it_is,
    command=lambda port, _: _in_our_environment("ray_serve", str(port)),
    plays=_is_ray_replica,
    environment={**_AS_PACKAGE, **_AS_OTHERS},
)
LOADER_A_BATCH: Final = replace(
    RAY_SERVE,
    name="Ray Serve, a DataLoader a batch",
    command=lambda port, _: _in_our_environment("ray_serve", str(port), "loader"),
)
KINDS: Final = (LITSERVE, MOSEC, DARKROOM)
