"""Streams of users through a gateway while requests move from one revision to the next, by the real steps."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from benchmarks.coldstart.failures import Failure
from benchmarks.coldstart.site import drive
from benchmarks.evaluations.arena import Arena, Model, Serving
from devcluster import exposing, models
from devcluster.demo.clients import StreamClients, Tally
from devcluster.demo.expectations import expected_texts
from devcluster.hub.models import TINY_CHAT, bundled
from llm_rollout import kinds, names
from llm_rollout.spec import Canary, Shift
from llm_rollout.verdict import Done, Fail

pytestmark = [pytest.mark.devcluster, pytest.mark.timeout(400)]

MODEL = "moved"
SHIFT = Shift(http_route="chat", percent=(25, 50), step_seconds=3, step_pairs=60, deadline_seconds=120)
STREAMS, ASKERS = 3, 4
STEADY = {"STANDIN_TTFT_DELAY_SECONDS": "0.1"}
SERVING = Serving(STEADY)
"""First tokens that wait more than they compute: two cores are shared by both revisions and all users."""


class Moved(Model):
    """A model whose specs move requests in steps."""

    def _begin(self, serving, canary):
        rollout = super()._begin(serving, canary)
        return replace(rollout, spec=rollout.spec.model_copy(update={"shift": SHIFT}))

    def switch(self, serving):
        """Bring a candidate up and switch to it, however that ends; the run and the verdict."""
        rollout = self._begin(serving, Canary())
        self.carry_out(rollout, "plan_rollout", "create_group", "await_cold_start")
        return rollout, drive("switch_service", rollout, self.ports)


class Askers:
    """Users of one token each: enough of them that a share is judged in seconds."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(ASKERS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=30)

    def _run(self) -> None:
        body = {"model": MODEL, "prompt": "1+1=", "max_tokens": 1, "temperature": 0}
        with httpx.Client(timeout=30, trust_env=False) as client:
            while not self._over.is_set():
                client.post(f"{self._url}/v1/completions", json=body)


@dataclass(frozen=True)
class Played:
    """What became of two rollouts, and of the streams meanwhile."""

    good: Done | Fail
    good_streams: Tally
    left_of_good: dict
    bad: Done | Fail
    bad_streams: Tally
    rolled_back: Done | Fail
    selected: tuple[str, str, str]
    """By the Service: at first, after the good one, after the bad one."""
    left: dict
    """The route in the end."""


@pytest.fixture(scope="module")
def played(edge):
    folder = Path(tempfile.mkdtemp())
    weights = {name: bundled() / TINY_CHAT / name for name in models.VERSION_NAMES}
    arena = Arena(edge.layout.home, weights, folder / "evidence")
    with arena._place(MODEL, Failure((), "")) as ports:
        model = Moved(arena, MODEL, ports)
        edge.add_route(MODEL, f"{MODEL}-api")
        model.deploy(SERVING)
        url = exposing.expose_gateway(edge.layout)
        at_first = selected(ports)
        rollout, good, streams = with_users(url, model, replace(SERVING, weights="v2"))
        model.conclude(rollout)
        afterwards, route = selected(ports), edge.route(MODEL)
        failing, bad, worse = with_users(url, model, Serving({**STEADY, "STANDIN_ERROR_RATE": "0.5"}, "v3"))
        rolled_back = drive("roll_back", failing, ports)
        model.conclude(failing)
        ends = (at_first, afterwards, selected(ports))
        yield Played(good, streams, route, bad, worse, rolled_back, ends, edge.route(MODEL))
    shutil.rmtree(folder)


def with_users(url, model, serving):
    """Switch while users stream; afterwards none of them is left."""
    users = StreamClients(url, MODEL, expected_texts(), STREAMS)
    users.start()
    askers = Askers(url)
    try:
        wait_for_streams(users)
        rollout, verdict = model.switch(serving)
    finally:
        askers.stop()
        tally = users.stop()
    return rollout, verdict, tally


def wait_for_streams(users):
    deadline = time.monotonic() + 60
    while not users.tally.by_text:
        assert time.monotonic() < deadline, users.tally.reasons
        time.sleep(0.2)


def selected(ports):
    found = ports.cluster.get(kinds.SERVICE, MODEL, f"{MODEL}-api")
    return found["spec"]["selector"][names.REVISION_LABEL]


def references(route):
    return [(ref["name"], ref.get("weight", 1)) for ref in route["spec"]["rules"][0]["backendRefs"]]


def test_requests_move_and_no_stream_breaks(played):
    assert isinstance(played.good, Done), played.good
    assert played.good_streams.dropped == 0, played.good_streams.reasons[:3]
    assert played.good_streams.by_text.keys() == {"v1", "v2"}
    assert played.good.evidence["shift"]["pairs"] >= 2 * SHIFT.step_pairs
    assert played.selected[0] != played.selected[1]


def test_the_route_is_left_as_it_was(played):
    assert references(played.left_of_good) == [(f"{MODEL}-api", 1)] == references(played.left)


def test_a_candidate_that_fails_requests_goes_back_from_the_first_step(played):
    assert isinstance(played.bad, Fail)
    assert f"is worse on {SHIFT.percent[0]} % of the live requests (errors)" in played.bad.cause
    assert isinstance(played.rolled_back, Done), played.rolled_back
    assert played.selected[1] == played.selected[2]
    failed = played.bad_streams.dropped / played.bad_streams.total
    assert 0 < failed < SHIFT.percent[0] / 100, "more users than the step's share met the candidate's errors"
