"""Fetch what is missing over many connections, prove each file, and give it its final name."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import InitVar, dataclass, field

from llm_rollout.errors import Permanent, Transient
from llm_rollout.staging.lock import Holding, LockLost
from llm_rollout.staging.meter import Meter
from llm_rollout.staging.pace import Pace
from llm_rollout.staging.partial import Partial
from llm_rollout.staging.schedule import SEGMENT_BYTES, Fetch, Part, Schedule
from llm_rollout.staging.store import Store, explained
from llm_rollout.staging.transport import STALL_SECONDS, Connection, RangeIgnored, Refused, Transport

MOST_MISMATCHES = 3
"""A digest that is wrong so often is wrong at its source."""
_BLOCK_BYTES = 256 * 1024
"""What one read waits for, and what a broken connection loses at most."""
_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 20.0
_LOOK_SECONDS = 0.1


@dataclass(eq=False)
class Transfer:
    """One run over the files that the store lacks."""

    store: Store
    partials: InitVar[Sequence[Partial]]
    transports: Iterator[Transport]
    """The ways to the bytes, best first; the next one is asked for only when the one before brings nothing."""
    holding: Holding
    meter: Meter
    give_up_after_seconds: float
    """How long a fault may bring nothing new."""
    schedule: Schedule = field(init=False)
    transport: Transport = field(init=False)
    _failure: BaseException | None = field(init=False, default=None)
    _refused: int = field(init=False, default=0)

    def __post_init__(self, partials: Sequence[Partial]) -> None:
        """Nothing is fetched before ``run``."""
        self.schedule = Schedule(partials)
        self.transport = next(self.transports)

    def run(self, most_connections: int, report: Callable[[], None]) -> None:
        """Return once every file has its final name; ``report`` is called ten times a second.

        Raises:
            Permanent: A file cannot be had, or its content is wrong at its source.
            Transient: Nothing new came for ``give_up_after_seconds``; says why.
        """
        pace = Pace.begin(self._useful(most_connections), time.monotonic())
        workers = self._hired(pace.connections)
        try:
            while not self.schedule.over_within(_LOOK_SECONDS):
                report()
                self._give_up_in_time()
                workers += self._hired(pace.look(self.meter.fetched_bytes, self._refused, time.monotonic()))
        finally:
            self.schedule.stop()
            for worker in workers:
                worker.join(self._stall_seconds() + 1)
        if self._failure is not None:
            raise self._failure

    def _hired(self, wanted: int) -> list[threading.Thread]:
        workers = [threading.Thread(target=self._work, daemon=True) for _ in range(self.schedule.want(wanted))]
        for worker in workers:
            worker.start()
        return workers

    def _useful(self, connections: int) -> int:
        parts = sum(len(fetch.missing) + fetch.file.size_bytes // SEGMENT_BYTES for fetch in self.schedule.fetches)
        return max(1, min(connections, parts))

    def _stall_seconds(self) -> float:
        return min(STALL_SECONDS, max(0.5, self.give_up_after_seconds))

    def _work(self) -> None:
        transport = self.transport
        connection = transport.connect(self._stall_seconds())
        buffer = memoryview(bytearray(_BLOCK_BYTES))
        last: Fetch | None = None
        try:
            while part := self.schedule.take(last):
                if transport is not self.transport:
                    connection.close()
                    transport = self.transport
                    connection = transport.connect(self._stall_seconds())
                last = part.fetch
                self._fetch(connection, part, buffer)
        except OSError as error:
            self._fail(explained(error, self.store.root))
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._fail(error)
        finally:
            connection.close()

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
        self.schedule.stop()

    def _fetch(self, connection: Connection, part: Part, buffer: memoryview) -> None:
        reached, cause, pause = [part.start], "", 0.0
        try:
            if part.start < part.end:
                self._receive(connection, part, buffer, reached)
        except LockLost:
            raise
        except RangeIgnored as ignored:
            part.fetch.whole, cause = True, str(ignored)
        except Refused as refused:
            cause, pause = str(refused), self._pause(part.fetch, refused.seconds)
            self._refused += 1
            if refused.seconds:
                self.schedule.pause(pause)
        except Transient as error:
            cause, pause = str(error), self._pause(part.fetch, None)
        self.meter.failures += bool(cause)
        if self.schedule.give_back(part, reached[0], cause=cause, pause_seconds=pause):
            self._complete(part.fetch)
        elif not cause:
            part.fetch.partial.catch_up()

    def _receive(self, connection: Connection, part: Part, buffer: memoryview, reached: list[int]) -> None:
        connection.request(part.fetch.file, part.start, part.end)
        while reached[0] < part.end:
            count = connection.read(buffer[: part.end - reached[0]])
            if not count:
                connection.close()
                raise Transient(f"{part.fetch.file.path}: the answer ended at byte {reached[0]} of {part.end}")
            self.holding.refuse_if_lost()
            if self.schedule.stopped:
                raise Transient("stopped")
            new = part.fetch.partial.write(reached[0], buffer[:count])
            self.meter.received(count, new)
            part.fetch.failures = 0 if new else part.fetch.failures
            reached[0] += count
        connection.finish()

    def _pause(self, fetch: Fetch, asked_seconds: float | None) -> float:
        if asked_seconds is not None:
            return min(asked_seconds, max(1.0, self.give_up_after_seconds))
        return backoff_seconds(fetch.failures)

    def _complete(self, fetch: Fetch) -> None:
        file, found = fetch.file, fetch.partial.hex_digest()
        if found == file.digest.hex:
            self.holding.refuse_if_lost()
            self.store.adopt(fetch.partial.data, file)
            fetch.partial.remove()
            self.schedule.finish(fetch)
            return
        fetch.mismatches += 1
        self.meter.dropped(fetch.partial.arrived_bytes())
        fetch.partial.forget()
        self.transport.distrust(file)
        if fetch.mismatches >= MOST_MISMATCHES:
            fetch.partial.remove()
            raise Permanent(
                f"{file.path} arrived with wrong content {fetch.mismatches} times: expected {file.digest}, found "
                f"{file.digest.algorithm}:{found}; the hub or a proxy before it serves a damaged file"
            )
        self.schedule.restart(fetch)

    def _give_up_in_time(self) -> None:
        failing = self.schedule.failing()
        stalled = self.meter.standstill_seconds() > self.give_up_after_seconds
        if not (stalled and failing and all(fetch.failures > 1 for fetch in failing)):
            return
        if following := next(self.transports, None):
            self.transport = following
            self.schedule.forgive()
            self.meter.be_patient_again()
            return
        self._fail(
            Transient(
                f"nothing new came for {self.meter.standstill_seconds():.0f} s, {len(failing)} files are not "
                f"whole, the first is {failing[0].file.path}; the last cause: {failing[0].cause}"
            )
        )


def backoff_seconds(failures: int) -> float:
    """How long to wait after so many failures in a row; spread, so that those who failed together do not meet again."""
    longest = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** min(failures, 10))
    return random.uniform(longest / 2, longest)  # noqa: S311 - guards nothing
