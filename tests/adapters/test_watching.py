"""What readers see of a watch that breaks in every way in which one can."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest

from llm_rollout import kinds, names
from llm_rollout.adapters import feed, watch_stream
from llm_rollout.adapters.kube import KubeCluster
from llm_rollout.adapters.watch_stream import KubeSource
from llm_rollout.adapters.watching import Watching
from llm_rollout.errors import Transient

SPACE = "default"
SECONDS = 10.0
"""The longest that any test waits for what must happen."""


def config(value, *, name="one", uid="uid-1", version="5", model="chat"):
    labels = {names.MODEL_LABEL: model} if model else {}
    metadata = {"name": name, "namespace": SPACE, "uid": uid, "resourceVersion": version, "labels": labels}
    return {"apiVersion": "v1", "kind": "Job", "metadata": metadata, "data": {"value": value}}


def event(what, manifest):
    return json.dumps({"type": what, "object": manifest}) + "\n"


def bookmark(version):
    return event("BOOKMARK", {"metadata": {"resourceVersion": version}})


GONE = event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"})


class Server:
    """An API server of one kind: answers lists with ``items`` and watches with the next of ``streams``."""

    def __init__(self, stub) -> None:
        self.stub = stub
        self.items: list[dict] = [config("old")]
        self.version = "5"
        self.streams: deque[Callable] = deque()
        self.lists = self.turned_away = 0
        self.watched: list[str] = []
        """From which version each watch began."""
        self.refused: dict[str, int] = {}
        """What ``list`` and ``watch`` are refused with."""
        stub.play = self._play

    def _play(self, handler) -> None:
        query = parse_qs(urlsplit(handler.path).query)
        if handler.path.count("/jobs/") or "watch" not in query:
            self._answer(handler)
        elif "watch" in self.refused:
            self.turned_away += 1
            self._refuse(handler, self.refused["watch"])
        else:
            self.watched.append(query["resourceVersion"][0])
            handler.begin_stream()
            (self.streams.popleft() if self.streams else self.stub.hold)(handler)
            if self.stub.over.is_set():
                handler.cut()

    def _answer(self, handler) -> None:
        name = urlsplit(handler.path).path.partition("/jobs/")[2]
        found = [one for one in self.items if one["metadata"]["name"] == name]
        if name:
            status, body = (200, found[0]) if found else (404, {"message": "not found"})
        else:
            self.lists += 1
            status, body = 200, {"metadata": {"resourceVersion": self.version}, "items": self.items}
        refused = self.refused.get("list") if not name else None
        if refused:
            self._refuse(handler, refused)
        else:
            handler.reply(status, json.dumps(body).encode(), "application/json")

    @staticmethod
    def _refuse(handler, status) -> None:
        handler.reply(status, json.dumps({"message": "refused for the test"}).encode(), "application/json")


def telling(*lines, then=None):
    def play(handler):
        for line in lines:
            handler.chunk(line)
        (then or (lambda found: found.chunk("")))(handler)

    return play


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(feed, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(feed, "REFUSED_SECONDS", 0.05)
    monkeypatch.setattr(feed, "SHORTEST_WATCH_SECONDS", 0.02)
    monkeypatch.setattr(feed, "_FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(feed, "_LONGEST_PAUSE_SECONDS", 0.05)


@pytest.fixture
def server(stub):
    return Server(stub)


@pytest.fixture
def woken():
    return threading.Event()


@pytest.fixture
def watching(server, api_client, monkeypatch):
    yield Watching(KubeCluster(api_client), KubeSource(api_client))
    monkeypatch.setattr(feed, "IDLE_SECONDS", -1.0)
    server.stub.over.set()
    eventually(lambda: not watches(), "the end of all watches")


@pytest.fixture
def view(watching, woken):
    return watching.join(SPACE, ("chat", "chat-api"), woken.set)


def watches():
    return [one for one in threading.enumerate() if one.name.startswith("watch-")]


def value(view, name="one"):
    found = view.get(kinds.JOB, SPACE, name)
    return found and found["data"]["value"]


def eventually(check, what):
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if check():
            return
        time.sleep(0.01)
    pytest.fail(f"not within {SECONDS} s: {what}")


def held(stub):
    """A stream that tells what the test gives it, while it gives it."""
    lines: deque[str | None] = deque()

    def play(handler):
        while not stub.over.is_set():
            if not lines:
                time.sleep(0.01)
                continue
            line = lines.popleft()
            if line is None:
                handler.chunk("")
                return
            handler.chunk(line)

    return lines, play


def test_reads_cost_one_list_and_one_watch(server, view):
    assert [value(view) for _ in range(50)] == ["old"] * 50
    assert [one["data"] for one in view.list(kinds.JOB, SPACE, {names.MODEL_LABEL: "chat"})] == [{"value": "old"}]
    eventually(lambda: server.watched == ["5"], "the watch")
    assert server.lists == 1


def test_a_change_is_seen_and_wakes_only_its_readers(server, stub, view, woken):
    lines, play = held(stub)
    server.streams.append(play)
    assert value(view) == "old"
    woken.clear()
    lines.append(event("ADDED", config("theirs", name="other", uid="uid-2", version="6", model="another")))
    eventually(lambda: value(view, "other") == "theirs", "the other model's object")
    assert not woken.is_set()
    lines.append(event("MODIFIED", config("new", version="7")))
    assert woken.wait(SECONDS)
    assert value(view) == "new"


def test_an_object_without_the_label_wakes_by_its_name(server, stub, view, woken):
    lines, play = held(stub)
    server.streams.append(play)
    value(view)
    woken.clear()
    lines.append(event("ADDED", config("x", name="chat-api-x2x4z", uid="uid-2", version="6", model=None)))
    assert woken.wait(SECONDS)


def test_readers_have_copies_of_their_own(view):
    view.get(kinds.JOB, SPACE, "one")["data"]["value"] = "spoilt"
    assert value(view) == "old"


def test_one_that_was_deleted_is_gone_and_one_made_again_is_another(server, stub, view):
    lines, play = held(stub)
    server.streams.append(play)
    assert value(view) == "old"
    lines.append(event("DELETED", config("old", version="6")))
    eventually(lambda: value(view) is None, "the deletion")
    lines.append(event("ADDED", config("again", uid="uid-2", version="7")))
    eventually(lambda: value(view) == "again", "the new one")
    lines.append(event("DELETED", config("old", version="6")) + bookmark("8"))
    lines.append(event("ADDED", config("mark", name="mark", uid="uid-3", version="9")))
    eventually(lambda: value(view, "mark") == "mark", "what came after")
    assert value(view) == "again"


@pytest.mark.parametrize("refusal", ["in the stream", "as a status"])
def test_a_version_that_is_too_old_means_a_new_list(server, view, woken, refusal):
    def gone(handler):
        server.items, server.version = [config("new", version="9")], "9"
        server.refused.clear()
        handler.chunk(GONE)
        handler.chunk("")

    if refusal == "in the stream":
        server.streams.append(gone)
    else:
        server.refused["watch"] = 410
        value(view)
        eventually(lambda: server.turned_away, "a watch that is refused")
        server.items, server.version = [config("new", version="9")], "9"
        del server.refused["watch"]
    eventually(lambda: value(view) == "new", "the new list")
    assert woken.is_set()
    eventually(lambda: server.watched[-1:] == ["9"], "a watch from the new version")


@pytest.mark.parametrize(
    "broken",
    {
        "cut in a line": telling(event("MODIFIED", config("half", version="6"))[:40], then=lambda one: one.cut()),
        "ended in a line": telling(event("MODIFIED", config("half", version="6"))[:40]),
        "no JSON": telling("<html>504</html>\n"),
        "no event": telling('{"type": "MODIFIED"}\n'),
        "a server error": telling(event("ERROR", {"code": 500, "message": "etcd"})),
        "cut at once": telling(then=lambda one: one.cut()),
    }.items(),
    ids=lambda pair: pair[0],
)
def test_a_stream_that_breaks_is_taken_up_again(server, stub, view, broken):
    lines, play = held(stub)
    server.streams.extend([broken[1], play])
    assert value(view) == "old"
    lines.append(event("MODIFIED", config("new", version="7")))
    eventually(lambda: value(view) == "new", "the change after the break")


def test_a_watch_goes_on_from_the_last_bookmark(server, view):
    server.streams.append(telling(bookmark("8")))
    value(view)
    eventually(lambda: server.watched == ["5", "8"], "the second watch")
    assert server.lists == 1


def test_a_watch_that_falls_silent_is_not_believed(server, view, monkeypatch):
    monkeypatch.setattr(feed, "SILENT_SECONDS", 0.1)
    assert value(view) == "old"
    eventually(lambda: server.watched, "the watch, which says nothing from now on")
    server.items = [config("new", version="9")]
    eventually(lambda: value(view) == "new", "an answer of the API server itself")
    assert server.lists == 1


def test_a_silent_connection_is_given_up(server, stub, view, monkeypatch):
    monkeypatch.setattr(watch_stream, "SILENCE_SECONDS", 0.1)
    lines, play = held(stub)
    server.streams.extend([stub.hold, play])
    assert value(view) == "old"
    lines.append(event("MODIFIED", config("new", version="7")))
    eventually(lambda: value(view) == "new", "the change on the second connection")


def test_where_watching_is_refused_lists_tell_what_changed(server, view, woken):
    server.refused["watch"] = 403
    assert value(view) == "old"
    woken.clear()
    server.items = [config("new", version="9")]
    assert woken.wait(SECONDS)
    assert value(view) == "new"
    del server.refused["watch"]
    eventually(lambda: server.watched, "a watch, once that is allowed")


def test_where_listing_is_refused_each_object_is_asked_for(server, view):
    server.refused["list"] = 403
    assert value(view) == "old"
    server.items = [config("new", version="9")]
    assert value(view) == "new"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_while_the_api_server_does_not_answer_nothing_is_said(server, view, status, monkeypatch):
    monkeypatch.setattr(feed, "BROKEN_SECONDS", 0.1)
    server.refused |= {"list": status}
    with pytest.raises(Transient):
        value(view)
    lines, play = held(server.stub)
    server.streams.append(play)
    server.refused.clear()
    eventually(lambda: _answers(view) == "old" and server.watched, "an answer and a watch")
    server.refused |= {"list": status, "watch": status}
    lines.append(None)
    eventually(lambda: _answers(view) is None, "that what is kept is no answer any more")


def _answers(view):
    try:
        return value(view)
    except Transient:
        return None


def test_after_a_write_its_kind_is_read_from_the_api_server(server, view):
    assert value(view) == "old"
    server.items = [config("written", version="6")]
    assert value(view) == "old"
    view.delete(kinds.JOB, SPACE, "another", "uid-9")
    assert value(view) == "written"


def test_events_are_those_of_the_model_and_of_nobody(stub, watching):
    def about(kind, name):
        metadata = {"name": f"{name}.1", "namespace": SPACE, "uid": name, "resourceVersion": "5"}
        return {"kind": "Event", "metadata": metadata, "involvedObject": {"kind": kind, "name": name}}

    told = [about("Pod", "chat-abcdefgh-0-1"), about("Pod", "chatter-abcdefgh-0"), about("Node", "node-1")]
    stub.answer(200, {"metadata": {"resourceVersion": "5"}, "items": told})
    found = watching.join(SPACE, ("chat",), lambda: None).list(kinds.EVENT, SPACE)
    assert [one["involvedObject"]["name"] for one in found] == ["chat-abcdefgh-0-1", "node-1"]


def test_what_nobody_reads_is_not_watched_for_long(server, stub, view, monkeypatch):
    lines, play = held(stub)
    server.streams.append(play)
    assert value(view) == "old"
    monkeypatch.setattr(feed, "IDLE_SECONDS", -1.0)
    lines.append(bookmark("6"))
    eventually(lambda: not watches(), "the watch's end")
    monkeypatch.setattr(feed, "IDLE_SECONDS", 60.0)
    server.items = [config("new", version="9")]
    assert value(view) == "new"
    assert server.lists == 2
