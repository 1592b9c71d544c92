"""Several processes stage onto one store at once: each byte comes once, whoever of them is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from llm_rollout.errors import Permanent
from llm_rollout.staging import lock
from llm_rollout.staging.store import Store
from llm_rollout.staging.verification import verify
from tests.staging.fork_server import Attempt, Ending, ForkServer

REPO = "acme/small"
PROCESSES = 3
SMALL = {"partial.JOURNAL_BYTES": 64 * 1024, "schedule.SEGMENT_BYTES": 64 * 1024, "transfer._BLOCK_BYTES": 16 * 1024}
TAKEN_OVER_WITHIN_SECONDS = 30.0


@pytest.fixture(scope="module")
def servers() -> Iterator[Sequence[ForkServer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(ForkServer()) for _ in range(PROCESSES)]


@pytest.fixture
def start(bench, servers) -> Iterator[Callable[..., list[Future[Ending]]]]:
    """Stage these revisions at once, each in a process of its own."""
    with ThreadPoolExecutor(PROCESSES) as threads:

        def run(*revisions: str, **details: Any) -> list[Future[Ending]]:
            attempts = [Attempt(_request(bench, revision), SMALL, **details) for revision in revisions]
            return [threads.submit(server.run, attempt) for server, attempt in zip(servers, attempts, strict=False)]

        yield run


def _request(bench: Any, revision: str) -> dict[str, Any]:
    return {
        "repo": REPO,
        "revision": revision,
        "store": str(bench.store),
        "endpoint": bench.endpoint,
        "token": None,
        "include": (),
        "exclude": ("original/*",),
        "connections": 4,
        "give_up_after_seconds": 20.0,
    }


def _sent(bench: Any) -> int:
    assert bench.hub.journal.settle(within_seconds=20)
    return int(bench.sent_bytes())


def _reports(started: Sequence[Future[Ending]]) -> list[dict[str, Any]]:
    endings = [future.result(timeout=60) for future in started]
    assert [ending.partial for ending in endings] == [()] * len(endings)
    return [dict(ending.said) for ending in endings if not ending.killed]


def test_three_at_once_fetch_it_once(bench, start):
    bench.fault("/lfs/*", "slow", bytes_per_second=2_000_000, times=None)
    reports = _reports(start("v1", "v1", "v1"))
    assert [report["event"] for report in reports] == ["report"] * 3
    assert sorted(report["bytes_fetched"] for report in reports) == [0, 0, reports[0]["bytes_total"]]
    assert _sent(bench) == reports[0]["bytes_total"]
    assert bench.same()
    assert bench.nothing_left()


def test_two_commits_at_once_fetch_once_what_they_share(bench, start):
    first, second = _reports(start("v1", "v2"))
    assert bench.same("v1")
    assert bench.same("v2")
    assert _sent(bench) == first["bytes_fetched"] + second["bytes_fetched"]
    assert _sent(bench) < 0.8 * (first["bytes_total"] + second["bytes_total"])


def test_when_the_one_that_works_is_killed_the_others_go_on_from_there(bench, start):
    bench.fault("/lfs/*", "slow", bytes_per_second=200_000, times=None)
    started = start("v1", "v1", "v1")
    _wait(lambda: bench.sent_bytes(of="/lfs/") > 400_000, "half of it has left the hub")
    os.kill(_holder(bench.store), signal.SIGKILL)
    bench.hub.faults.clear()
    reports = _reports(started)
    assert [report["event"] for report in reports] == ["report"] * 2
    assert sorted(report["bytes_fetched"] > 0 for report in reports) == [False, True]
    assert bench.same()
    assert bench.nothing_left()
    at_most_again = 2 * SMALL["partial.JOURNAL_BYTES"] + 4 * SMALL["schedule.SEGMENT_BYTES"]
    assert _sent(bench) <= reports[0]["bytes_total"] + at_most_again


def test_a_lock_left_by_a_killed_process_of_another_host_is_taken_over_soon(bench, start):
    """With the real waiting time: the file's beat stands still, and its process is in no table of ours."""
    bench.fault("/lfs/*", "slow", bytes_per_second=100_000, times=None)
    (started,) = start("v1")
    _wait(lambda: bench.sent_bytes(of="/lfs/") > 100_000, "a part of it has left the hub")
    os.kill(_holder(bench.store), signal.SIGKILL)
    assert started.result(timeout=60).killed
    bench.hub.faults.clear()
    place = _lock_file(bench.store)
    left = json.loads(place.read_text())
    place.write_text(json.dumps({**left, "host": "node-9", "process": ["another boot", *left["process"][1:]]}))
    (again,) = start("v1")
    ending = again.result(timeout=2 * TAKEN_OVER_WITHIN_SECONDS)
    assert ending.said["event"] == "report"
    assert lock.STALE_SECONDS <= ending.seconds <= TAKEN_OVER_WITHIN_SECONDS
    assert bench.same()


QUICK = {**SMALL, "lock.STALE_SECONDS": 0.4, "lock.BEAT_SECONDS": 0.1, "lock.LOOK_SECONDS": 0.05}


def test_a_process_that_hung_and_was_taken_over_spoils_nothing_when_it_goes_on(bench, servers):
    """Stopped before calls all over its work, until another process has published; then it goes on."""
    hangs, works = servers[:2]
    calls = hangs.run(Attempt(_request(bench, "v1"), QUICK, name_calls=True)).calls
    first, last = calls.index("pwrite"), len(calls)
    points = [*range(first, last - LATE_CALLS, 20), *range(last - LATE_CALLS, last, 2)]
    for number in points:
        shutil.rmtree(bench.store)
        bench.store.mkdir()
        try:
            said = _hung_and_taken_over(bench, hangs, works, number)
            assert said.get("class") in {None, "LockLost"}, said
        except (AssertionError, Permanent) as error:
            raise AssertionError(f"stopped before call {number} of {last}, {calls[number]}: {error}") from error
    print(f"{len(points)} hangs")


LATE_CALLS = 30
"""About those from the last file's final name to the end."""


def _hung_and_taken_over(bench: Any, hangs: ForkServer, works: ForkServer, number: int) -> Mapping[str, Any]:
    with ThreadPoolExecutor(1) as thread:
        hanging = thread.submit(hangs.run, Attempt(_request(bench, "v1"), QUICK, stop_at_call=number))
        _wait(lambda: hanging.done() or bool(hangs.stopped()), "it hangs or has ended")
        try:
            ending = works.run(Attempt(_request(bench, "v1"), QUICK))
        finally:
            for child in hangs.stopped():
                child.resume()
        assert ending.said.get("event") == "report", ending
        assert ending.partial == ()
        hung = hanging.result(timeout=60)
    assert hung.partial == ()
    found = verify(Store(bench.store), REPO, bench.published().name, lambda _line: None)
    assert (found.missing, found.mismatches) == ((), ())
    works.run(Attempt(_request(bench, "v2"), QUICK))
    assert bench.nothing_left()
    return hung.said


def _lock_file(store: Path) -> Path:
    return max((store / ".lock").iterdir())


def _holder(store: Path) -> int:
    """A beat is written in two steps: between them the file is empty."""
    _wait(lambda: _lock_file(store).read_text().startswith("{"), "the holder's name")
    return int(json.loads(_lock_file(store).read_text())["process"][1])


def _wait(check: Callable[[], bool], what: str, within_seconds: float = 30) -> None:
    deadline = time.monotonic() + within_seconds
    while not check():
        assert time.monotonic() < deadline, f"not within {within_seconds} s: {what}"
        time.sleep(0.005)
