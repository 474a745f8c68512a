"""Tests of the imitated machines: apart from each other and from this one, except for the network between them."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psutil
import pytest

from harness.machines import Machine, Machines, unsupported_reason
from harness.repository import ROOT
from tests.support.waiting import until

PORT = 8123
LISTED = 'ls "$(dirname "$(mktemp -u)")"'
"""Lists the folder for temporary files."""

LISTEN = """
import socket, sys
server = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("listening", flush=True)
kept = []
while True:
    kept.append(server.accept()[0])
    kept[-1].sendall(socket.gethostname().encode())
"""

pytestmark = pytest.mark.skipif(unsupported_reason() is not None, reason=f"{unsupported_reason()}")


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    """Return a network of its own."""
    with Machines() as network:
        yield network


@pytest.fixture(scope="module")
def clients(machines: Machines) -> Machine:
    """Return a machine without a server."""
    return machines.add("clients")


@pytest.fixture
def server(machines: Machines) -> Iterator[Machine]:
    """Return a machine with a server that tells its host name."""
    machine = machines.add("server")
    with machine.start([sys.executable, "-c", LISTEN, machine.address, str(PORT)], {}, subprocess.PIPE) as started:
        assert started.stdout
        assert started.stdout.readline() == b"listening\n"
        yield machine
        machine.switch_off()


def ask(server: Machine) -> bytes:
    """Ask a server for its name, from the network of this thread."""
    with socket.create_connection((server.address, PORT), timeout=1.0) as connection:
        return connection.recv(100)


def ask_or_not(server: Machine) -> bytes:
    """Ask a server for its name; empty if it does not answer."""
    with suppress(OSError):
        return ask(server)
    return b""


def test_a_machine_is_reached_from_the_others_alone(clients: Machine, server: Machine) -> None:
    """Threads that are started inside are on the network of the machine too; this machine is not."""
    own = os.readlink("/proc/thread-self/ns/net")
    with clients.network():
        assert ask(server) == b"server"
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(ask, server).result() == b"server"
    assert os.readlink("/proc/thread-self/ns/net") == own
    with pytest.raises(OSError, match=r"timed out|unreachable|refused"):
        ask(server)


def test_another_thread_stays_where_it_is(clients: Machine) -> None:
    seen = list[str]()
    inside, outside = threading.Event(), threading.Event()

    def look() -> None:
        inside.wait()
        seen.append(os.readlink("/proc/thread-self/ns/net"))
        outside.set()

    thread = threading.Thread(target=look)
    thread.start()
    own = os.readlink("/proc/thread-self/ns/net")
    with clients.network():
        inside.set()
        outside.wait()
        assert os.readlink("/proc/thread-self/ns/net") != own
    thread.join()
    assert seen == [own]


def test_processes_and_files_are_its_own(machines: Machines) -> None:
    """Each machine sees its own processes, host name and /tmp, and the files of the repository."""
    one, two = machines.add("one"), machines.add("two")
    assert one.run(["hostname"], {}).stdout == "one\n"
    one.run(["sh", "-c", "mktemp"], {})
    assert one.run(["sh", "-c", LISTED], {}).stdout.startswith("tmp.")
    assert two.run(["sh", "-c", LISTED], {}).stdout == ""
    assert two.run(["sh", "-c", "echo $$"], {}).stdout.strip().isdecimal()
    assert "README.md" in two.run(["ls"], {}).stdout
    assert len(two.run(["ps", "-e"], {}).stdout.splitlines()) < 6


def test_a_machine_off_the_network_comes_back(clients: Machine, server: Machine) -> None:
    """Off the network nothing is refused and nothing answered; the processes go on, and answer afterwards."""
    server.disconnect()
    with clients.network(), pytest.raises(TimeoutError):
        ask(server)
    server.connect()
    with clients.network():
        assert until(lambda: ask_or_not(server)) == b"server"
    assert server.is_running


def test_a_machine_that_is_switched_off_says_nothing(clients: Machine, server: Machine) -> None:
    """Switched off, a machine closes no connection: whoever waits for it waits."""
    processes = server.processes()
    assert len(processes) == 1
    with clients.network(), socket.create_connection((server.address, PORT), timeout=1.0) as connection:
        assert connection.recv(100) == b"server"
        server.switch_off()
        connection.settimeout(0.5)
        connection.sendall(b"?")
        with pytest.raises(TimeoutError):
            connection.recv(100)
    assert not server.is_running
    assert not any(process.is_running() for process in processes)


def test_processes_are_killed_and_the_machine_stays(clients: Machine, server: Machine) -> None:
    server.kill_processes()
    assert server.processes() == []
    with clients.network(), pytest.raises(ConnectionRefusedError):
        ask(server)
    assert server.run(["hostname"], {}).stdout == "server\n"


def test_machines_end_with_the_process_that_has_made_them() -> None:
    """A killed process leaves no machine behind, and nothing that runs on one."""
    program = (
        "import sys\nfrom harness.machines import Machines\nmachine = Machines().add('orphan')\n"
        "machine.start(['sleep', '1000'], {}, 1)\nwhile not machine.processes(): pass\n"
        "print(*(process.pid for process in machine.processes()), flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as maker:
        assert maker.stdout
        running = [psutil.Process(int(pid)) for pid in maker.stdout.readline().split()]
        assert running
        maker.kill()
    assert psutil.wait_procs(running, timeout=10)[1] == []


def test_nothing_is_left(machines: Machines) -> None:
    """At the end all machines are off, whatever runs on them."""
    with Machines() as network:
        machine = network.add("short")
        machine.start(["sleep", "1000"], {}, subprocess.DEVNULL)
        (running,) = until(machine.processes)
    assert not running.is_running()
    assert machines
