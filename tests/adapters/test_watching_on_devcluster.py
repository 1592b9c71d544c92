"""What only a real API server can show: how soon a change is seen, old versions, refusals, an API server that dies."""

from __future__ import annotations

import statistics
import threading
import time
import uuid

import psutil
import pytest
from kubernetes import client

from llm_rollout import kinds, names
from llm_rollout.adapters import feed
from llm_rollout.adapters.kube import KubeCluster
from llm_rollout.adapters.watch_stream import Gone, KubeSource
from llm_rollout.adapters.watching import Watching
from llm_rollout.errors import Transient

pytestmark = pytest.mark.devcluster

SPACE = "default"
MODEL = f"watched-{uuid.uuid4().hex[:8]}"
SEEN_SECONDS = 1.0
BACK_SECONDS = 60.0
DOWN_SECONDS = 6.0
"""Longer than what is kept counts as current."""


def job(number, model=MODEL):
    pod = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "none"}]}
    metadata = {"name": f"{model}-{number}", "namespace": SPACE, "labels": {names.MODEL_LABEL: model}}
    spec = {"suspend": True, "template": {"spec": pod}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


class Reader:
    """A wait that reads what it is woken for."""

    def __init__(self, api_client, kind=kinds.JOB) -> None:
        self.woken = threading.Event()
        self.direct = KubeCluster(api_client)
        self.view = Watching(self.direct, KubeSource(api_client)).join(SPACE, (MODEL,), self.woken.set)
        self.kind = kind

    def names(self):
        found = self.view.list(self.kind, SPACE, {names.MODEL_LABEL: MODEL})
        return [one["metadata"]["name"] for one in found]

    def seconds_until(self, wanted, most):
        """How long until exactly these are seen, each look following a call."""
        started = time.monotonic()
        while time.monotonic() - started < most:
            self.woken.wait(0.5)
            self.woken.clear()
            try:
                if self.names() == wanted:
                    return time.monotonic() - started
            except Transient:
                continue
        return pytest.fail(f"not within {most} s: {wanted}, but {self.names()}")


@pytest.fixture(autouse=True)
def ended(monkeypatch):
    yield
    monkeypatch.setattr(feed, "IDLE_SECONDS", -1.0)
    for thread in threading.enumerate():
        if thread.name.startswith("watch-"):
            thread.join(30)


@pytest.fixture
def reader(api):
    found = Reader(api)
    yield found
    for one in found.direct.list(kinds.JOB, SPACE, {names.MODEL_LABEL: MODEL}):
        found.direct.delete(kinds.JOB, SPACE, one["metadata"]["name"], one["metadata"]["uid"])


def watch_is_open(reader):
    """The first list is there, and a change arrives by the watch."""
    assert reader.names() == []
    reader.direct.create(job("first"))
    reader.seconds_until([f"{MODEL}-first"], 30)


def test_a_change_is_seen_at_once(reader):
    watch_is_open(reader)
    taken = []
    for number in range(5):
        made = reader.direct.create(job(number))
        taken.append(reader.seconds_until(sorted([*(f"{MODEL}-{n}" for n in range(number + 1)), f"{MODEL}-first"]), 30))
    assert statistics.median(taken) < SEEN_SECONDS < feed.POLL_SECONDS, taken
    uid = made["metadata"]["uid"]
    reader.direct.delete(kinds.JOB, SPACE, f"{MODEL}-4", uid)
    wanted = sorted([*(f"{MODEL}-{n}" for n in range(4)), f"{MODEL}-first"])
    reader.seconds_until(wanted, 30)


def test_what_is_kept_is_what_the_api_server_has(reader):
    watch_is_open(reader)
    deadline = time.monotonic() + 60
    while True:  # Its controller may write to it between the two reads.
        kept = reader.view.get(kinds.JOB, SPACE, f"{MODEL}-first")
        told = reader.direct.get(kinds.JOB, SPACE, f"{MODEL}-first")
        del told["metadata"]["managedFields"]
        if kept == told:
            break
        assert time.monotonic() < deadline, (kept, told)
    listed = list(reader.view.list(kinds.NODE, ""))
    assert [one["metadata"]["name"] for one in listed] == sorted(
        one["metadata"]["name"] for one in reader.direct.list(kinds.NODE, "")
    )


@pytest.fixture
def lister(cluster, api):
    """An identity that may get and list Jobs, but not watch them."""
    user = f"lister-{uuid.uuid4().hex[:8]}"
    rbac = client.RbacAuthorizationV1Api(api)
    rule = {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list"]}
    rbac.create_namespaced_role(SPACE, {"metadata": {"name": user}, "rules": [rule]})
    binding = {
        "metadata": {"name": user},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user},
        "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
    }
    rbac.create_namespaced_role_binding(SPACE, binding)
    with cluster.api() as found:
        found.set_default_header("Impersonate-User", user)
        yield found
    rbac.delete_namespaced_role_binding(user, SPACE)
    rbac.delete_namespaced_role(user, SPACE)


def test_who_may_only_list_is_told_by_lists(reader, lister):
    theirs = Reader(lister)
    deadline = time.monotonic() + 60
    while _names_or_none(theirs) is None:  # The role may need a moment to be known.
        assert time.monotonic() < deadline
        time.sleep(0.1)
    reader.direct.create(job("first"))
    assert theirs.seconds_until([f"{MODEL}-first"], 30) < feed.POLL_SECONDS + 5
    running = next(iter(theirs.view._watching._feeds.values()))
    assert running._unwatchable


def _names_or_none(reader):
    try:
        return reader.names()
    except Exception:  # noqa: BLE001 - refused until the role is known
        return None


def test_it_outlives_the_api_server(second_cluster):
    """Nothing is told while it is away, what changes as soon as it is back is seen, and old versions mean a new list.

    An API server that has just started knows no change from before its start: versions of then are gone.
    """
    with second_cluster.api() as api:
        reader = Reader(api)
        watch_is_open(reader)
        told = outage(second_cluster, DOWN_SECONDS, reader.names)
        assert told["first refusal"] is not None, "what was kept was told for as long as the API server was away"
        assert told["first refusal"] <= feed.BROKEN_SECONDS + 2
        assert told["answers"] <= {(f"{MODEL}-first",)}
        create_once_back(reader.direct, job("second"))
        seconds = reader.seconds_until([f"{MODEL}-first", f"{MODEL}-second"], 30)
        print(f"seen {seconds:.2f} s after the API server was back")
        assert seconds < 5 * feed._LONGEST_PAUSE_SECONDS
        with pytest.raises(Gone), KubeSource(api).changes(kinds.JOB, SPACE, "1") as changes:
            list(changes)
        lists_anew(reader)


def lists_anew(reader):
    """A watch that would go on from a version of long ago."""
    running = next(iter(reader.view._watching._feeds.values()))
    running._version = "1"
    deadline = time.monotonic() + 30
    while running._version == "1":
        assert time.monotonic() < deadline, "the watch did not list anew"
        time.sleep(0.1)
    reader.direct.create(job("third"))
    reader.seconds_until([f"{MODEL}-first", f"{MODEL}-second", f"{MODEL}-third"], 30)


def outage(cluster, seconds, ask):
    """Kill the API server as often as it is started for so long; what ``ask`` answered, and when first it did not."""
    started, refused, answers = time.monotonic(), None, set()
    while time.monotonic() - started < seconds:
        for process in cluster.processes():
            if _name(process) == "kube-apiserver":
                process.kill()
        try:
            answers.add(tuple(ask()))
        except Transient:
            refused = refused if refused is not None else time.monotonic() - started
        time.sleep(0.1)
    return {"first refusal": refused, "answers": answers}


def create_once_back(direct, manifest):
    deadline = time.monotonic() + BACK_SECONDS
    while True:
        try:
            return direct.create(manifest)
        except Transient:
            assert time.monotonic() < deadline, "the API server did not come back"
            time.sleep(0.1)


def _name(process):
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""
