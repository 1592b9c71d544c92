"""Faults that the hub shows on request: each matches a path and is spent after so many requests."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from typing import Any

KINDS = {
    "status": "answer `status` (with `error_code` as X-Error-Code and `retry_after`, seconds or a date, where given)",
    "gated": "403 GatedRepo, unless the request carries `token` as its bearer token",
    "drop_after": "close the connection after `bytes` bytes of the body",
    "truncate": "announce and send only the first `bytes` bytes",
    "corrupt": "flip one bit of the byte at offset `bytes` of the file: right size, wrong content",
    "slow": "send the body at `bytes_per_second`",
    "stall": "send `bytes` bytes of the body, then nothing for `seconds`, then close",
    "ignore_range": "answer 200 with the whole file although a range was asked for",
    "wrong_range": "send a range `bytes` further on than was asked for, and say so in Content-Range",
    "wrong_total": "say in Content-Range that the file has `bytes` more than it has",
    "misplaced": "send a range `bytes` further on under the Content-Range that was asked for",
    "repeat_token": "answer `status` and repeat the request's bearer token in every header, in the body and in the "
    "Location or Content-Range",
    "signed": "redirect to another origin with a signed address, good for `seconds` and for `uses` requests",
}
ANSWER_KINDS = frozenset({"status", "gated", "repeat_token"})
"""Kinds that take the place of any answer."""
RANGE_KINDS = frozenset({"ignore_range", "wrong_range", "wrong_total", "misplaced"})
"""Kinds that only a request for a range spends."""
BODY_KINDS = frozenset(KINDS) - ANSWER_KINDS - {"signed"}
"""Kinds that apply to the bytes of files; a redirect or a HEAD does not spend them."""


@dataclass
class Fault:
    """One fault. ``match`` is a glob on the URL path or on ``ORG/NAME/FILE``.

    The first ``after`` requests that it matches are answered well, the next ``times`` show it; None means for ever.
    """

    match: str
    kind: str
    times: int | None = 1
    after: int = 0
    status: int = 500
    error_code: str = ""
    retry_after: int | str | None = None
    token: str = ""
    bytes: int = 0
    bytes_per_second: int = 1024 * 1024
    seconds: float = 60.0
    uses: int | None = None


def parse(value: Mapping[str, Any]) -> Fault:
    """A fault from JSON; ValueError names an unknown field or kind and what is known."""
    known = {field.name for field in fields(Fault)}
    if unknown := set(value) - known:
        raise ValueError(f"fault: unknown field {sorted(unknown)}; known are {sorted(known)}")
    if not {"match", "kind"} <= set(value):
        raise ValueError("fault: `match` and `kind` are required")
    if value["kind"] not in KINDS:
        raise ValueError(f"fault: kind {value['kind']!r} is not one of {sorted(KINDS)}")
    return Fault(**value)


class FaultBook:
    """The faults that are switched on. Safe to use from many threads."""

    def __init__(self) -> None:
        """Start without faults."""
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, faults: Sequence[Fault]) -> None:
        """Switch more faults on."""
        with self._lock:
            self._faults.extend(faults)

    def clear(self) -> None:
        """Switch all faults off."""
        with self._lock:
            self._faults.clear()

    def listed(self) -> list[dict[str, Any]]:
        """What is on, with the times that are left."""
        with self._lock:
            return [asdict(fault) for fault in self._faults]

    def take(self, paths: Collection[str], kinds: Collection[str], bearer: str = "") -> Fault | None:
        """The first fault of one of ``kinds`` that matches one of ``paths``; spends it once.

        ``bearer`` is the request's token: the right one opens a gate without spending it.
        """
        with self._lock:
            for fault in self._faults:
                opened = fault.kind == "gated" and bool(fault.token) and fault.token == bearer
                if fault.kind not in kinds or opened or not any(fnmatchcase(path, fault.match) for path in paths):
                    continue
                if fault.after > 0:
                    fault.after -= 1
                    continue
                self._spend(fault)
                return fault
        return None

    def _spend(self, fault: Fault) -> None:
        if fault.times is None:
            return
        fault.times -= 1
        if fault.times <= 0:
            self._faults.remove(fault)
