"""One writer for a store, also on NFS and Lustre, where ``flock`` silently does nothing.

The lock is a directory of numbered files; the highest number holds it, and the number is the fencing token. A holder
writes a beat into its file every two seconds. Waiting processes read the file anew (opening revalidates what NFS
caches) and take over with the next number once the beat has stood still for fifteen seconds of their own clock, so
that clocks of hosts are never compared. Where holder and waiter share a process table, a dead holder is seen at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llm_rollout.errors import Transient

BEAT_SECONDS = 2.0
STALE_SECONDS = 15.0
"""Seven missed beats: a store that stands still for so long is rare, and takeover must come within 30 s."""
LOOK_SECONDS = 0.5
RELEASED = "released"


class LockLost(Transient):
    """Another process holds the store now."""


@dataclass
class Holding:
    """The lock is ours. ``number`` is the fencing token."""

    number: int
    lost: threading.Event
    file: Path

    def refuse_if_lost(self) -> None:
        """Raise LockLost where another process took over: nothing more may be written.

        It looks at the lock itself: a process that has just been woken up goes on before its next beat.
        """
        if self.lost.is_set() or not self.file.exists():
            raise LockLost("another process took the store over while this one stood still; run it again")


@contextlib.contextmanager
def held(folder: Path, waiting: Callable[[str], None]) -> Iterator[Holding]:
    """Hold the lock in ``folder``; ``waiting`` is called now and then with the present holder's description.

    Raises:
        LockLost: In place of whatever went wrong after another process had taken over.
    """
    folder.mkdir(parents=True, exist_ok=True)
    number = _acquire(folder, waiting)
    holding = Holding(number, threading.Event(), folder / _name(number))
    stop = threading.Event()
    beating = threading.Thread(target=_beat, args=(holding, stop), daemon=True)
    beating.start()
    try:
        yield holding
    except Exception:
        # Who was taken over finds files gone or renamed: that is no fault of the store, and another try is right.
        holding.refuse_if_lost()
        raise
    finally:
        stop.set()
        beating.join()
        with contextlib.suppress(FileNotFoundError):
            _overwrite(holding.file, RELEASED)


def _acquire(folder: Path, waiting: Callable[[str], None]) -> int:
    seen, since = "", time.monotonic()
    while True:
        number, text = _highest(folder)
        if text != seen:
            seen, since = text, time.monotonic()
        if not number or text == RELEASED or _dead(text) or time.monotonic() - since > STALE_SECONDS:
            if _take(folder, number + 1):
                return number + 1
            continue
        waiting(_description(text))
        time.sleep(LOOK_SECONDS)


def _take(folder: Path, number: int) -> bool:
    try:
        handle = os.open(folder / _name(number), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    with os.fdopen(handle, "w") as stream:
        stream.write(_text(0))
    for path in folder.iterdir():
        other = _number(path)
        if other > number:
            # Somebody was faster by two numbers: this one was free again only because it had been cleared away.
            (folder / _name(number)).unlink(missing_ok=True)
            return False
        if other < number:
            path.unlink(missing_ok=True)
    return True


def _beat(holding: Holding, stop: threading.Event) -> None:
    count, last = 0, time.monotonic()
    while not stop.wait(BEAT_SECONDS):
        count += 1
        try:
            _overwrite(holding.file, _text(count))
            last = time.monotonic()
        except FileNotFoundError:
            holding.lost.set()
            return
        except OSError:
            # A store that hangs or is full for a moment: without a beat others may take over.
            if time.monotonic() - last > STALE_SECONDS:
                holding.lost.set()
                return


def _highest(folder: Path) -> tuple[int, str]:
    number = max((_number(path) for path in folder.iterdir()), default=0)
    if not number:
        return 0, ""
    try:
        return number, (folder / _name(number)).read_text().strip("\0 \n")
    except OSError:
        return number, ""


def _overwrite(path: Path, text: str) -> None:
    with path.open("r+") as stream:
        stream.truncate(0)
        stream.write(text)
        stream.flush()


def _text(count: int) -> str:
    return json.dumps({"host": os.uname().nodename, "process": _process(os.getpid()), "beat": count})


def _dead(text: str) -> bool:
    with contextlib.suppress(ValueError, KeyError, IndexError, TypeError):
        holder = json.loads(text)["process"]
        if holder[0] == _table():
            return bool(_process(holder[1]) != holder)
    return False


def _process(number: int) -> list[str | int]:
    """What no other process is: its table, its number and when it started."""
    try:
        started = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["", number, ""]
    # Field 3 is the state, field 22 the start time: a zombie has ended though its number is still taken.
    return [_table(), number, "" if started[0] in "ZX" else started[19]]


def _table() -> str:
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    return f"unknown/{uuid.uuid4()}"


def _description(text: str) -> str:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        owner = json.loads(text)
        return f"process {owner['process'][1]} on {owner['host']}"
    return "another process"


def _name(number: int) -> str:
    return f"{number:08d}"


def _number(path: Path) -> int:
    return int(path.name) if path.name.isdigit() else 0
