"""Collections beside stagings: every order of their steps that chance finds, and real threads."""

from __future__ import annotations

import contextlib
import io
import os
import random
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from llm_rollout.adapters.hub import HuggingFaceHub
from llm_rollout.errors import Permanent
from llm_rollout.staging import collection, lock
from llm_rollout.staging.collection import Root
from llm_rollout.staging.listing import MANIFEST, Digest
from llm_rollout.staging.store import TAKEN_OUT, Store, read_manifest
from llm_rollout.staging.verification import verify

REPO, OTHER = "acme/small", "acme/other"
KNOWN = [(REPO, "v1"), (REPO, "v2"), (OTHER, "v1")]
"""Three commits that share content."""
STEPS = ("utime", "rename", "stat", "lstat", "unlink", "rmdir", "mkdir", "open", "scandir", "listdir", "link")
"""What a thread does between two moments at which another may go on, of the module ``os``; and ``io.open``."""
DECISIVE = ("utime", "rename", "unlink")
SCHEDULES = 200
ROUNDS = 40


class Turns:
    """One thread runs at a time; before each of its steps chance says whether another goes on, and which.

    From seed to seed they change places often, now and then, or hardly ever but before decisive steps.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - the same in every run
        self._restless = (0.5, 0.05, 0.002)[seed % 3]
        self._seats: dict[int, threading.Semaphore] = {}

    def run(self, works):
        """Do all ``works``, and give back what each raised."""
        raised: list[Exception] = []
        seated = threading.Barrier(len(works) + 1)

        def sit(work):
            mine = self._seats[threading.get_ident()] = threading.Semaphore(0)
            seated.wait()
            mine.acquire()
            try:
                work()
            except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
                raised.append(error)
            finally:
                del self._seats[threading.get_ident()]
                self._call_on()

        threads = [threading.Thread(target=sit, args=(work,), daemon=True) for work in works]
        for thread in threads:
            thread.start()
        seated.wait()
        self._call_on()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive(), "nobody goes on"
        return raised

    def step(self, name):
        mine = self._seats.get(threading.get_ident())
        if mine is not None and self._random.random() < (0.5 if name in DECISIVE else self._restless):
            self._call_on()
            mine.acquire()

    def _call_on(self):
        if self._seats:
            self._random.choice([*self._seats.values()]).release()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """What each revision is, is asked of the hub once; who waits for the lock looks often; nothing has to last."""
    known, ask = {}, HuggingFaceHub.resolve

    def resolve(hub, repo, revision, endpoint):
        if (repo, revision) not in known:
            known[repo, revision] = ask(hub, repo, revision, endpoint)
        return known[repo, revision]

    monkeypatch.setattr(HuggingFaceHub, "resolve", resolve)
    monkeypatch.setattr(lock, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(os, "fsync", lambda _handle: None)


def grow_old(folder):
    moment = time.time() - 3600
    os.utime(folder / MANIFEST, (moment, moment))


def is_whole(bench, repo, revision):
    """Whether it is published, every byte right, and its content there for others to share."""
    store, folder = Store(bench.store), bench.published(revision, repo)
    try:
        found = verify(store, repo, folder.name, lambda _line: None)
    except Permanent:
        return False
    contents = [store.blob(Digest.parse(entry["digest"])) for entry in read_manifest(folder).get("files", [])]
    return bool(contents) and not found.missing and not found.mismatches and all(blob.exists() for blob in contents)


def long_enough_ago():
    return time.time() - collection.TIME_STAMP_SECONDS


def collect(bench, keep, roots=(), began=None):
    """A collection without a grace that has been waiting for its time: what is touched from now on is young."""
    named = tuple(Root(repo, bench.published(revision, repo).name) for repo, revision in roots)
    request = collection.Request(bench.store, named, keep, 0.0, began or long_enough_ago(), dry_run=False)
    return collection.collect(request, lambda _line: None)


def is_back(source, target):
    """Whether a rename gives a commit back that was taken out."""
    return TAKEN_OUT in str(source) and "models" in str(target)


def test_no_order_of_steps_takes_a_commit_from_a_staging_that_found_it(bench, monkeypatch, tmp_path):
    """Every commit on the store is old, and none is a root: only that it was asked for keeps it."""
    full = bench.store
    for repo, revision in KNOWN:
        bench.stage(revision, repo=repo)
        grow_old(bench.published(revision, repo))
    removed, given_back = Counter(), 0
    for seed in range(SCHEDULES):
        bench.store = tmp_path / f"store-{seed}"
        subprocess.run(["cp", "-a", full, bench.store], check=True)
        chance = random.Random(seed)  # noqa: S311 - the same in every run
        wanted = chance.choices(KNOWN, k=chance.choice([1, 1, 2]))
        turns, reports, keep = Turns(seed), [], chance.choice([0, 1])
        works, began = [lambda one=one: bench.stage(one[1], repo=one[0]) for one in wanted], long_enough_ago()
        works.append(lambda keep=keep, reports=reports, began=began: reports.append(collect(bench, keep, began=began)))
        with monkeypatch.context() as stepped:
            for module, name in [*((os, name) for name in STEPS), (io, "open")]:
                whole_call = getattr(module, name)

                def call(*arguments, turns=turns, name=name, whole_call=whole_call, **options):
                    nonlocal given_back
                    turns.step(name)
                    given_back += name == "rename" and is_back(*arguments[:2])
                    return whole_call(*arguments, **options)

                stepped.setattr(module, name, call)
            raised = turns.run(works)
        assert raised == [], f"seed {seed}"
        assert all(is_whole(bench, *one) for one in wanted), f"seed {seed}: {wanted}, {reports}"
        removed.update(reports[0].commits_removed)
        subprocess.run(["rm", "-r", bench.store], check=True)
    assert len(removed) == len(KNOWN)
    assert given_back


def test_threads_that_stage_and_one_that_collects_lose_nothing_in_use(bench):
    """A commit is a root from before it is staged, as a rollout's plan is. When nobody uses it, it is old at once."""
    uses, guard, over = Counter(), threading.Lock(), threading.Event()
    removed = 0

    @contextlib.contextmanager
    def in_use(one):
        with guard:
            uses[one] += 1
        yield
        with guard:
            uses[one] -= 1
            if not uses[one]:
                grow_old(bench.published(one[1], one[0]))

    def stage(seed):
        chance = random.Random(seed)  # noqa: S311 - the same in every run
        for _ in range(ROUNDS):
            one = chance.choice(KNOWN)
            with in_use(one):
                bench.stage(one[1], repo=one[0])
                deadline = time.monotonic() + 60  # A collection that took it out just then gives it back.
                while not is_whole(bench, *one) and time.monotonic() < deadline:
                    time.sleep(0.01)
                assert is_whole(bench, *one)

    def collect_on():
        nonlocal removed
        while not over.is_set():
            began = long_enough_ago()
            with guard:
                roots = [one for one, count in uses.items() if count]
            removed += len(collect(bench, 0 if roots else 1, roots, began).commits_removed)

    with ThreadPoolExecutor(4) as threads:
        collecting = threads.submit(collect_on)
        stagings = [threads.submit(stage, seed) for seed in range(3)]
        try:
            for staging in stagings:
                staging.result()
        finally:
            over.set()
        collecting.result()
    assert removed > 0
    assert bench.nothing_left()
