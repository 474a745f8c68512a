"""Machines of a network, imitated on one: each has an address, processes, /tmp and shared memory of its own.

They are namespaces of Linux, joined by a bridge in a namespace of its own, so the network of the machine itself stays
as it is. All machines see the same files outside /tmp, and share its cores. Needs root, `unshare` and `nsenter`
(Debian's util-linux) and `ip` (iproute2).
"""

import ctypes
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final, Self

import psutil

from harness.repository import ROOT

NETWORK: Final = "10.77.0"
"""First three numbers of all addresses; no machine outside can be reached from them."""

_ZOMBIE: Final = psutil.STATUS_ZOMBIE
_PROGRAMS: Final = ("unshare", "nsenter", "ip")
_CLONE_NEWNET: Final = 0x40000000
_STARTS_WITHIN_S: Final = 10.0
_ENDS_WITHIN_S: Final = 10.0

_SET_UP: Final = """
mount -t tmpfs tmpfs /tmp && mount -t tmpfs tmpfs /dev/shm && mount -t proc proc /proc && hostname "$0" && \
cat; true
"""
"""Makes the files of a machine its own. As its first process, the shell then waits for all that end.

`cat` ends when the process that has made the machine ends, however it ends, and with the shell all of the machine ends.
"""


class Machine:
    """One machine; made by `Machines.add`.

    Attributes:
        name: host name.
        address: IP address.
    """

    def __init__(self, name: str, address: str, init: psutil.Process, link: "_Link") -> None:
        self.name, self.address = name, address
        self._init, self._link, self._kept = init, link, init.children()
        self._started: list[subprocess.Popen[bytes]] = []

    @property
    def is_running(self) -> bool:
        """False once the machine has been switched off."""
        return self._init.is_running() and self._init.status() != _ZOMBIE

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], sink: IO[bytes] | int
    ) -> subprocess.Popen[bytes]:
        """Start a program on the machine, in the repository's folder.

        Args:
            command: the program and its arguments.
            environment: environment variables, in addition to those of this process.
            sink: file for its output.
        """
        started = subprocess.Popen(
            self._inside(command),
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._started.append(started)
        return started

    def run(
        self, command: Sequence[str], environment: Mapping[str, str], *, stdin: str = "", timeout_s: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on the machine to its end, and return its output."""
        return subprocess.run(
            self._inside(command),
            check=False,
            cwd=ROOT,
            env={**os.environ, **environment},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def switch_off(self) -> None:
        """End all processes of the machine at once, and take it off the network, as a power cut does."""
        if self.is_running:
            self.disconnect()  # first: a machine without power closes no connection
            self._init.kill()  # the first process of a namespace takes all others with it
            self._init.wait(_ENDS_WITHIN_S)
        for started in self._started:
            started.wait(_ENDS_WITHIN_S)

    def disconnect(self) -> None:
        """Cut the machine off the network; its processes go on."""
        self._link.set("down")

    def connect(self) -> None:
        """Bring the machine back onto the network."""
        self._link.set("up")

    def processes(self) -> list[psutil.Process]:
        """List the processes that were started on the machine."""
        own, kept = os.readlink(f"/proc/{self._init.pid}/ns/pid"), self._kept
        found = []
        for process in psutil.process_iter():
            with suppress(OSError, psutil.Error):  # it has ended
                is_here = os.readlink(f"/proc/{process.pid}/ns/pid") == own
                if is_here and process != self._init and process not in kept and process.status() != _ZOMBIE:
                    found.append(process)
        return found

    def kill_processes(self) -> None:
        """Kill all processes, but leave the machine on.

        Raises:
            TimeoutError: some are still there after 10 s.
        """
        until = time.monotonic() + _ENDS_WITHIN_S
        while running := self.processes():
            if time.monotonic() > until:
                raise TimeoutError(f"still running on {self.name}: {running}")
            for process in running:
                with suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(running, timeout=1.0)

    @contextmanager
    def network(self) -> Iterator[None]:
        """Give this thread, and the threads and processes that it starts in the block, the network of the machine."""
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            theirs = os.open(f"/proc/{self._init.pid}/ns/net", os.O_RDONLY)
            try:
                _enter(theirs)
            finally:
                os.close(theirs)
            yield
        finally:
            _enter(own)
            os.close(own)

    def _inside(self, command: Sequence[str]) -> list[str]:
        return [_path("nsenter"), "--target", str(self._init.pid), "--all", f"--wd={ROOT}", "--", *command]


class Machines:
    """A network of machines. Used as a context manager, which switches all of them off at its end.

    Raises:
        OSError: this machine does not allow it; see `unsupported_reason`.
    """

    def __init__(self) -> None:
        if reason := unsupported_reason():
            raise OSError(reason)
        self._machines: list[Machine] = []
        self._holders: list[subprocess.Popen[bytes]] = []
        self._switch = self._hold("--net", "--", "cat")
        self._ip("link", "add", "bridge", "type", "bridge")
        self._ip("link", "set", "bridge", "up")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Switch all machines off."""
        for machine in self._machines:
            with suppress(subprocess.TimeoutExpired, psutil.TimeoutExpired):  # its holder is killed below
                machine.switch_off()
        for holder in self._holders:
            holder.kill()
            holder.communicate()

    def add(self, name: str) -> Machine:
        """Start another machine."""
        number = 1 + len(self._machines)
        kinds = ("--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child")
        init = self._hold(*kinds, "--", "bash", "-c", _SET_UP, name)
        link = _Link(f"link{number}", self._ip)
        self._ip("link", "add", link.name, "type", "veth", "peer", "name", "eth0", "netns", str(init.pid))
        self._ip("link", "set", link.name, "master", "bridge", "up")
        address = f"{NETWORK}.{number}"
        for command in (f"addr add {address}/24 dev eth0", "link set eth0 up", "link set lo up"):
            _checked("nsenter", f"--net=/proc/{init.pid}/ns/net", "ip", *command.split())
        self._machines.append(Machine(name, address, init, link))
        return self._machines[-1]

    def _ip(self, *arguments: str) -> None:
        _checked("nsenter", f"--net=/proc/{self._switch.pid}/ns/net", "ip", *arguments)

    def _hold(self, *arguments: str) -> psutil.Process:
        """Start a process that keeps new namespaces alive; return it once it has set them up."""
        holder = subprocess.Popen(
            [_path("unshare"), *arguments],
            stdin=subprocess.PIPE,  # ends with this process
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # it complains when it is killed
            start_new_session=True,
        )
        self._holders.append(holder)
        until = time.monotonic() + _STARTS_WITHIN_S
        while time.monotonic() < until and holder.poll() is None:
            first = psutil.Process(holder.pid)
            with suppress(psutil.Error):
                inside = first.children()
                if any(process.name() == "cat" for process in (first, *first.children(recursive=True))):
                    return inside[0] if inside else first
            time.sleep(0.01)
        raise OSError(f"{' '.join(arguments)} has not started: {holder.poll()}")


class _Link:
    """The cable between a machine and the switch."""

    def __init__(self, name: str, ip: Callable[..., None]) -> None:
        self.name, self._ip = name, ip

    def set(self, state: str) -> None:
        """Set it up or down."""
        self._ip("link", "set", self.name, state)


def unsupported_reason() -> str | None:
    """Return why machines cannot be imitated here; None if they can."""
    if os.geteuid() != 0:
        return "imitated machines need root"
    if missing := [program for program in _PROGRAMS if not shutil.which(program)]:
        return f"imitated machines need {', '.join(missing)} (Debian's util-linux and iproute2)"
    if not Path("/proc/self/ns/net").exists():
        return "this kernel has no namespaces"
    trial = [_path("unshare"), "--net", "--mount", "--pid", "--fork", "true"]
    tried = subprocess.run(trial, check=False, capture_output=True, text=True)
    return f"this machine allows no namespaces: {tried.stderr.strip()}" if tried.returncode else None


def _path(program: str) -> str:
    return shutil.which(program) or program


def _checked(program: str, *arguments: str) -> None:
    done = subprocess.run([_path(program), *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{program} {' '.join(arguments)}: {done.stderr.strip()}")


def _enter(namespace: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "cannot enter the network of the machine")
