"""The coordinator's side of the connections: who has joined, and asking them to run tools."""

from __future__ import annotations

import functools
import itertools
import queue
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Self

from llm_rollout.fabric import inventory, sysfs, tools
from llm_rollout.fabric.inventory import Member
from llm_rollout.fabric.perftest import Output
from llm_rollout.fabric.wire import Wire

_HELLO_SECONDS = 10.0
_MARGIN_SECONDS = 5.0
"""What a member gets beyond the tool's own timeout to answer."""

_COUNT_SECONDS = 10.0
"""What a member gets to read its counters."""

_END_SECONDS = 2.0
"""What a member gets to hang up at the end."""


class LostError(Exception):
    """A member's connection broke or it did not answer in time."""


class Task:
    """One run that a member was asked for."""

    def __init__(self, stop: Callable[[], None], lose: Callable[[], None], timeout_seconds: float) -> None:
        """``stop`` asks the member to end the run, ``lose`` gives the member up when it stays silent."""
        self.stop = stop
        self.inbox: queue.SimpleQueue[Mapping[str, Any] | None] = queue.SimpleQueue()
        self._lose = lose
        self._deadline = time.monotonic() + timeout_seconds
        self._done: Mapping[str, Any] | None = None

    def wait_listening(self) -> bool:
        """Whether the server can be connected to; False when it has ended instead."""
        return bool(self._next(self._deadline)["state"] == "listening")

    def output(self, grace_seconds: float | None = None) -> Output:
        """What the run left; LostError when the member is gone. After ``grace_seconds`` the run is stopped."""
        if grace_seconds is not None and not self._ended_by(time.monotonic() + grace_seconds):
            self.stop()
        return Output(**self.answer()["output"])

    def answer(self) -> Mapping[str, Any]:
        """The member's last word; LostError when it is gone."""
        while self._done is None:
            self._next(self._deadline)
        return self._done

    def _ended_by(self, moment: float) -> bool:
        while self._done is None:
            try:
                self._take(self.inbox.get(timeout=max(0.0, moment - time.monotonic())))
            except queue.Empty:
                return False
        return True

    def _next(self, moment: float) -> Mapping[str, Any]:
        try:
            return self._take(self.inbox.get(timeout=max(0.0, moment - time.monotonic())))
        except queue.Empty:
            self._lose()
            raise LostError from None

    def _take(self, message: Mapping[str, Any] | None) -> Mapping[str, Any]:
        if message is None:
            raise LostError
        if message["state"] == "done":
            self._done = message
        return message


class Joined:
    """A member that is connected."""

    def __init__(self, index: int, member: Member, wire: Wire) -> None:
        """Answers are dispatched by ``listen``."""
        self.index, self.member, self.alive = index, member, True
        self._wire = wire
        self._tasks: dict[int, Task] = {}
        self._numbers = itertools.count(1)
        self._over = threading.Event()

    def start(self, run: tools.Run) -> Task:
        """Ask for a run; LostError when the member is gone."""
        return self._ask({"do": "run", "run": asdict(run)}, run.timeout_seconds + _MARGIN_SECONDS)

    def start_nccl(self, command: Sequence[str], environment: Mapping[str, str], timeout_seconds: float) -> Task:
        """Ask for this member's part of an NCCL run; LostError when the member is gone."""
        message = {"do": "nccl", "command": list(command), "environment": dict(environment)}
        return self._ask({**message, "timeout_seconds": timeout_seconds}, timeout_seconds + _MARGIN_SECONDS)

    def counters(self, hcas: Sequence[str]) -> sysfs.Counters:
        """The error counters of the member's ports as they are now; LostError when the member is gone."""
        return dict(self._ask({"do": "count", "hcas": list(hcas)}, _COUNT_SECONDS).answer()["counters"])

    def listen(self) -> None:
        """Hand answers to their tasks until the connection ends; then every task is lost."""
        for message in self._wire.messages():
            task = self._tasks.get(message.get("id", 0))
            if task is not None and "state" in message:
                task.inbox.put(message)
        self.alive = False
        self._over.set()
        for task in list(self._tasks.values()):
            task.inbox.put(None)

    def say_end(self) -> None:
        """Tell the member that the probe is over."""
        self._send({"do": "end"})

    def close(self) -> None:
        """Let the member hang up first, so that nothing on its way is cut off; then close."""
        self._over.wait(_END_SECONDS)
        self._wire.close()

    def _ask(self, message: Mapping[str, Any], timeout_seconds: float) -> Task:
        number = next(self._numbers)
        task = Task(functools.partial(self._send, {"do": "stop", "id": number}), self._lose, timeout_seconds)
        self._tasks[number] = task
        self._send({**message, "id": number})
        if not self.alive:
            raise LostError
        return task

    def _lose(self) -> None:
        self.alive = False
        self._wire.close()

    def _send(self, message: Mapping[str, Any]) -> None:
        try:
            self._wire.send(message)
        except OSError:
            self.alive = False


class Roster:
    """Listens for members. A member that comes back (a restarted pod) takes its old place."""

    def __init__(self, host: str, port: int, count: int) -> None:
        """Listen on ``host`` ("" is every address); OSError when the port is taken."""
        self._listening = _listening_socket(host, port)
        self._joined: dict[int, Joined] = {}
        self._count = count
        self._changed = threading.Condition()
        self._doors_open = True

    def __enter__(self) -> Self:
        """Start to accept members."""
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the probe for every member."""
        self._listening.close()
        members = list(self._joined.values())
        for joined in members:
            joined.say_end()
        for joined in members:
            joined.close()

    def gather(self, deadline: float, on_join: Callable[[Member, int], None]) -> None:
        """Wait until all are there or ``deadline`` (monotonic seconds); ``on_join`` gets each and the count so far."""
        seen: set[int] = set()
        while len(seen) < self._count and time.monotonic() < deadline:
            with self._changed:
                self._changed.wait(timeout=min(1.0, max(0.0, deadline - time.monotonic())))
                new = [joined for index, joined in self._joined.items() if index not in seen]
            for joined in new:
                seen.add(joined.index)
                on_join(joined.member, len(seen))

    def close_doors(self) -> None:
        """From now on only those who have joined may come back: the others are too late for this probe."""
        self._doors_open = False

    def get(self, index: int) -> Joined | None:
        """The member, None when it never joined or its connection is gone."""
        joined = self._joined.get(index)
        return joined if joined is not None and joined.alive else None

    def ever_joined(self) -> dict[int, Member]:
        """By index, everybody who has joined, also those who are gone."""
        with self._changed:
            return {index: self._joined[index].member for index in sorted(self._joined)}

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._welcome, args=(connection,), daemon=True).start()

    def _welcome(self, connection: socket.socket) -> None:
        connection.settimeout(_HELLO_SECONDS)
        wire = Wire(connection)
        joined = _introduced(wire, self._count)
        if joined is None:
            wire.close()
            return
        wire.set_timeout(None)
        if not self._doors_open and joined.index not in self._joined:
            joined.say_end()
            wire.close()
            return
        with self._changed:
            self._joined[joined.index] = joined
            self._changed.notify_all()
        joined.listen()


def _introduced(wire: Wire, count: int) -> Joined | None:
    """Who this is; None for anything that is not a member's hello."""
    hello = wire.receive() or {}
    try:
        index = int(hello["hello"])
        member = inventory.member_from_json(hello)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return Joined(index, member, wire) if 0 <= index < count else None


def _listening_socket(host: str, port: int) -> socket.socket:
    """Both IP versions where every address is wanted and the kernel has both."""
    if not host and socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError:
            pass
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)
