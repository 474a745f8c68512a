"""Tests of updates, kills and stops under constant load: no answer is wrong, and only bounded losses occur.

One service of two replicas serves most of the tests, in the order of this file. Each test leaves it complete.
"""

import copy
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from harness.local_service import Document, shipped_config
from tests.support.early import COLD, Early
from tests.support.judged_load import JudgedLoad, under_load
from tests.support.running_service import Service, live_config, running
from tests.support.seen import actor, is_whole, killed, says_running, with_decoders
from tests.support.waiting import until

CLIENTS = 6
SOME = 20
"""Number of answers after which the load counts as going on."""

CUT_OFF = {"502", "RemoteProtocolError", "ReadError", "WriteError"}
"""Outcomes of a request in a process that is killed: HAProxy says 502 or, on a connection that it has used before,
closes it."""

CUT_OFF_BY_A_DEATH = 2 * CLIENTS
"""Most requests that a replica's death cuts off: that of each client, and the one that it sends at once after it.

The kernel frees the memory of a killed process before it closes the sockets: until then it takes new connections.
"""

WHILE_HAPROXY_STARTS = {"ConnectError", "404", "503"}
"""Nobody listens; and then, for a moment, HAProxy does not know its routes yet."""

pytestmark = pytest.mark.slow


def _config(replicas: int, **pipeline: Any) -> Document:
    """Return the shipped configuration with this many replicas, small enough that two fit on two cores."""
    config = shipped_config()
    application = config["applications"][0]
    application["args"]["num_cpus"] = 1
    application["args"]["pipeline"].update(pipeline)
    scaling = {"min_replicas": replicas, "max_replicas": replicas, "downscale_delay_s": 1, "upscale_delay_s": 1}
    application["deployments"][0]["autoscaling_config"].update(scaling)
    application["deployments"][0]["user_config"]["max_queue_wait_s"] = 60.0  # no request is refused for overload
    return config


# ---- what is seen of the load -------------------------------------------------------------------------------------


def _goes_on(load: JudgedLoad) -> None:
    """Wait for right answers to requests that are sent from now on."""
    wanted = load.right + SOME
    until(lambda: load.right >= wanted)


def _assert_lost(load: JudgedLoad, *, at_most: int, of: set[str]) -> None:
    """Assert that no answer was wrong or missing, and that requests were lost only in these ways."""
    assert load.wrong == []
    assert load.unanswered == []
    kinds = {kind: count for kind, count in load.answers.items() if kind != "200"}
    assert sum(count for kind, count in kinds.items() if kind in CUT_OFF) <= at_most, load.lost
    assert kinds.keys() <= of, load.lost


def _assert_none_lost(load: JudgedLoad) -> None:
    _assert_lost(load, at_most=0, of=set())


# ---- from the start -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def early(tmp_path_factory: pytest.TempPathFactory) -> Early:
    """Return a client that sends requests from the first moment of this file's service on."""
    return Early(tmp_path_factory.mktemp("pair") / "serve_config.yaml", replicas=2)


@pytest.fixture(scope="module")
def pair(early: Early) -> Iterator[Service]:
    """Two replicas behind HAProxy."""
    with ThreadPoolExecutor(1) as pool:
        watch = pool.submit(early.watch)
        try:
            with running(early.path.parent, _config(2)) as service:
                until(lambda: is_whole(service, 2))
                early.stop.set()
                watch.result()
                yield service
        finally:
            early.stop.set()


def test_no_replica_is_asked_before_it_is_warm(pair: Service, early: Early) -> None:
    """No replica gets a request before it is warm: until then no client is answered, and afterwards every one is."""
    assert pair
    assert len(early.cold) >= COLD
    assert "200" not in early.cold
    assert "200" in early.after
    assert {*early.after[early.after.index("200") :]} == {"200"}


# ---- in order -------------------------------------------------------------------------------------------------------


def test_live_settings_change_without_a_loss(pair: Service) -> None:
    replicas = pair.replicas()
    with under_load(pair.url, CLIENTS) as load:
        with live_config(pair, max_batch_size=8, top_k=2):
            _goes_on(load)
        _goes_on(load)
    _assert_none_lost(load)
    assert pair.replicas() == replicas


# ---- by force -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "fresh"),
    [(signal.SIGKILL, True), (signal.SIGKILL, False), (signal.SIGTERM, True)],
    ids=["killed, new connections", "killed, kept connections", "terminated"],
)
def test_a_killed_replica_takes_only_its_own_requests_along(pair: Service, number: signal.Signals, fresh: bool) -> None:
    """A killed replica loses only its own requests.

    SIGTERM has the same effect, as Ray's workers exit at once on it.
    """
    victim = pair.replicas()[0]
    with under_load(pair.url, CLIENTS, fresh=fresh) as load:
        _goes_on(load)
        victim.send_signal(number)
        until(lambda: not victim.is_running())
        _goes_on(load)
        until(lambda: is_whole(pair, 2))
        _goes_on(load)
    _assert_lost(load, at_most=CUT_OFF_BY_A_DEATH, of=CUT_OFF)


def test_a_stopped_replica_is_replaced(pair: Service) -> None:
    """A stopped replica is ended by its watchdog, which logs it. Its requests are cut off and do not hang.

    They are not sent to the other replica, because nobody knows how far the first one has come with them.
    """
    victim = pair.replicas()[0]
    with under_load(pair.url, CLIENTS) as load:
        _goes_on(load)
        victim.suspend()
        until(lambda: not victim.is_running())
        until(lambda: is_whole(pair, 2))
        _goes_on(load)
    _assert_lost(load, at_most=CUT_OFF_BY_A_DEATH, of=CUT_OFF)
    assert load.lost
    said = f"replica {victim.pid} is killed: it was stopped (SIGSTOP)"
    assert any(said in log.read_text(errors="replace") for log in pair.log_folder().glob("worker-*.err"))


def test_nobody_misses_a_killed_controller(pair: Service) -> None:
    """A killed controller costs no request. The new one takes over the running replicas."""
    victim, replicas = actor(pair, "ServeController"), pair.replicas()
    with under_load(pair.url, CLIENTS) as load:
        _goes_on(load)
        victim.kill()
        until(lambda: says_running(pair))
        until(lambda: is_whole(pair, 2))
        _goes_on(load)
    _assert_none_lost(load)
    assert pair.replicas() == replicas
    assert actor(pair, "ServeController") != victim


@pytest.mark.parametrize("name", ["haproxy", "HAProxyManager"])
def test_a_killed_haproxy_comes_back(pair: Service, name: str) -> None:
    """A killed HAProxy, alone or with its manager, comes back.

    Until then connections are refused, and replicas stay.

    A client may be cut off twice: by the kill, and by the reload that gives the new HAProxy its routes.
    """
    replicas = pair.replicas()
    with under_load(pair.url, CLIENTS) as load:
        _goes_on(load)
        (victim,) = until(lambda: killed(pair, name))
        until(lambda: not victim.is_running() and is_whole(pair, 2))
        _goes_on(load)
    _assert_lost(load, at_most=2 * CLIENTS, of=CUT_OFF | WHILE_HAPROXY_STARTS)
    assert pair.replicas() == replicas


# ---- another number, another configuration --------------------------------------------------------------------------


def _deploy(service: Service, config: Document) -> None:
    config = copy.deepcopy(config)
    config["http_options"] = service.config["http_options"]
    service.deploy(config)


def test_a_rolling_update_without_room_goes_by_turns(pair: Service) -> None:
    """Without free cores a rolling update replaces one replica after the other, while the other one answers."""
    before = pair.replicas()
    with under_load(pair.url, CLIENTS) as load:
        _goes_on(load)
        _deploy(pair, _config(2, slots=128))
        until(lambda: not any(replica.is_running() for replica in before), timeout_s=120)
        until(lambda: is_whole(pair, 2))
        _goes_on(load)
    _assert_none_lost(load)
    assert pair.info()["args"]["pipeline"]["slots"] == 128


def test_a_replica_that_is_not_needed_goes_without_a_loss(pair: Service) -> None:
    """Scaling down removes one of the two replicas without losing a request."""
    with under_load(pair.url, CLIENTS) as load:
        _goes_on(load)
        _deploy(pair, _config(1, slots=128))
        until(lambda: is_whole(pair, 1))
        _goes_on(load)
    _assert_none_lost(load)


def test_a_rolling_update_of_a_single_replica_leaves_no_gap(pair: Service) -> None:
    """With free cores a single replica is updated without a gap: the new one starts before the old one ends."""
    (before,) = pair.replicas()
    with under_load(pair.url, CLIENTS) as load:
        _goes_on(load)
        _deploy(pair, _config(1, slots=64))
        until(lambda: with_decoders(pair) - {before.pid})
        assert before.is_running()
        until(lambda: not before.is_running())
        until(lambda: is_whole(pair, 1))
        _goes_on(load)
    _assert_none_lost(load)
    assert pair.info()["args"]["pipeline"]["slots"] == 64


def test_requests_wait_where_a_single_replica_fills_the_cluster(pair: Service) -> None:
    """If a single replica fills the cluster, the old one ends first, and new requests wait in Serve's own proxy."""
    (before,) = pair.replicas()
    config = _config(1)
    config["applications"][0]["args"]["num_cpus"] = 2
    with under_load(pair.url, CLIENTS) as load:
        _goes_on(load)
        _deploy(pair, config)
        until(lambda: not before.is_running())
        until(lambda: is_whole(pair, 1))
        _goes_on(load)
    _assert_none_lost(load)
    assert pair.info()["args"]["num_cpus"] == 2


def test_requests_wait_for_the_successor_of_a_killed_single_replica(pair: Service) -> None:
    """When a single replica is killed, its requests are cut off, and new ones wait in Serve's own proxy."""
    (victim,) = pair.replicas()
    with under_load(pair.url, CLIENTS) as load:
        _goes_on(load)
        victim.kill()
        until(lambda: not victim.is_running() and is_whole(pair, 1))
        _goes_on(load)
    _assert_lost(load, at_most=CUT_OFF_BY_A_DEATH, of=CUT_OFF)
