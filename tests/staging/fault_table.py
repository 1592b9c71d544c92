"""The rows of the table of faults: what is wrong, how a run under it ends, what the run after it may fetch."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from devcluster.hub.faults import Fault
from llm_rollout.commands.job_lines import EXIT_NO_SPACE, EXIT_PERMANENT, EXIT_TRANSIENT
from llm_rollout.staging.listing import INDEX

REPO = "acme/small"
BROKEN = "acme/broken"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
SHARD_BYTES = 400_000
PART_BYTES = 64 * 1024
"""A request of the fixture ``small_parts``."""
TOTAL_BYTES = 2 * SHARD_BYTES + 1_000
HALF_BYTES = TOTAL_BYTES - SHARD_BYTES  # left where one shard could be had
REST_BYTES = HALF_BYTES - 3 * PART_BYTES
"""What is left where also three requests for the other brought something."""
ANY, ONE = "/lfs/*", f"{REPO}/{SHARDS[1]}"
API, FILES = "/api/*", "*/resolve/*"
TOKEN = "hf_the-token-that-nobody-sees"


@dataclass(frozen=True)
class Row:
    """One fault, how the run under it ends, and what the run after it may fetch."""

    name: str
    faults: tuple[Fault, ...] = ()
    ends: int = 0
    says: str = ""
    """A pattern for the error's message."""
    repo: str = REPO
    revision: str = "v1"
    token: str = ""
    seconds: float = 0.0
    """How long it must take at least: what a server asked for is honoured."""
    again_bytes: int | None = None
    """What the next run fetches at most: the rest. Where only one shard failed, the other is there already."""
    again_least_bytes: int = 0
    """What it must fetch: content that was wrong is dropped."""
    fetches_nothing: bool = False
    """It ends before the first byte of a file is asked for."""
    masked: bool = False
    """The message names the host of an address that the hub gave, and the command masks it."""
    mends: bool = True
    """Whether lifting the fault makes it good."""
    spoil: Callable[[Any, pytest.MonkeyPatch], None] | None = None

    @property
    def most_again_bytes(self) -> int:
        """``again_bytes``, or what follows from the faults."""
        one_shard = {fault.match for fault in self.faults} == {ONE}
        return self.again_bytes or (HALF_BYTES if one_shard else TOTAL_BYTES)

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


def _once(match: str, kind: str, **details: Any) -> tuple[Fault, ...]:
    return (Fault(match, kind, **details),)


def _always(match: str, kind: str, **details: Any) -> tuple[Fault, ...]:
    return (Fault(match, kind, times=None, **details),)


def _branch_moves(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as the listing has been answered, ``main`` is another commit."""
    bench.hub.branches.move(REPO, "main", "v1")
    answered = bench.hub.journal.note

    def note(method: str, path: str, **details: Any) -> None:
        answered(method, path, **details)
        if path.startswith("/api/"):
            bench.hub.branches.move(REPO, "main", "v2")

    monkeypatch.setattr(bench.hub.journal, "note", note)


def _writes_fail(number: int, after_bytes: int) -> Callable[[Any, pytest.MonkeyPatch], None]:
    def spoil(_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        written, whole = 0, os.pwrite

        def pwrite(handle: int, block: memoryview, position: int) -> int:
            nonlocal written
            if written >= after_bytes:
                raise OSError(number, os.strerror(number))
            written += len(block)
            return whole(handle, block, position)

        monkeypatch.setattr(os, "pwrite", pwrite)

    return spoil


def _no_room(_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_rollout.staging.store.RESERVE_BYTES", 1 << 60)


def _directories_cannot_be_made(_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def mkdir(*_arguments: Any, **_options: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "mkdir", mkdir)


PASSING = [
    Row("dropped before the first byte", _once(ANY, "drop_after", bytes=0, times=3)),
    Row("dropped in mid-body", _once(ANY, "drop_after", bytes=50_000, times=3)),
    Row("truncated", _once(ANY, "truncate", bytes=50_000, times=3)),
    Row("stalled", _once(ANY, "stall", bytes=50_000, seconds=3)),
    Row("slow", _always(ANY, "slow", bytes_per_second=2_000_000)),
    Row("wrong bytes once", _once(ANY, "corrupt", bytes=20_000)),
    Row("wrong bytes twice", _once(ONE, "corrupt", bytes=20_000, times=2)),
    Row("another range, and said so", _once(ANY, "wrong_range", bytes=1000, times=3)),
    Row("another range under the right name", _once(ANY, "misplaced", bytes=1000)),
    Row("another total size", _once(ANY, "wrong_total", bytes=1, times=3)),
    Row("200 instead of 206", _always(ANY, "ignore_range")),
    *(Row(f"{status} for a while", _once(ANY, "status", status=status, times=3)) for status in (408, 429, 500)),
    Row("503 of the hub itself", _once(FILES, "status", status=503, times=3)),
    Row("429 with seconds", _once(ANY, "status", status=429, retry_after=1), seconds=1.0),
    Row("429 with a date", _once(ANY, "status", status=429, retry_after="in 3 s"), seconds=1.0),
    Row("listing 429", _once(API, "status", status=429, retry_after=1)),
    Row("listing 500", _once(API, "status", status=500)),
    *(Row(f"address answers {status}", _once(ANY, "status", status=status, times=2)) for status in (401, 403, 404)),
    Row("signed address of another origin", _always(FILES, "signed"), token=TOKEN),
    Row("signed address good for one request", _always(FILES, "signed", uses=1), token=TOKEN),
    Row(
        "signed address expires in mid-file",
        (*_always(FILES, "signed", seconds=0.2), *_always("/signed/*", "slow", bytes_per_second=400_000)),
    ),
    Row("branch moves in mid-download", revision="main", spoil=_branch_moves),
    Row("token repeated in a refusal", _once(ANY, "repeat_token", status=503), token=TOKEN),
    Row("token repeated in Content-Range", _once(ANY, "repeat_token", status=206), token=TOKEN),
]
"""Faults that pass, or that staging goes around."""

LASTING = [
    Row("always dropped", _always(ONE, "drop_after", bytes=0), EXIT_TRANSIENT, "ended at byte|broke off"),
    Row("always truncated", _always(ONE, "truncate", bytes=0), EXIT_TRANSIENT, f"{SHARDS[1]}.* another Content-Range"),
    Row("always stalled", _always(ONE, "stall", bytes=0, seconds=2), EXIT_TRANSIENT, "no byte for 0.5 s"),
    Row(
        "always another range", _always(ONE, "wrong_range", bytes=9), EXIT_TRANSIENT, f"{SHARDS[1]}.* another Content-"
    ),
    Row(
        "always another total", _always(ONE, "wrong_total", bytes=1), EXIT_TRANSIENT, f"{SHARDS[1]}.* another Content-"
    ),
    Row("always 500", _always(ONE, "status", status=500), EXIT_TRANSIENT, f"answered 500 for {SHARDS[1]}"),
    Row("always 429", _always(ONE, "status", status=429), EXIT_TRANSIENT, f"answered 429 for {SHARDS[1]}"),
    Row(
        "429 asks for an hour",
        _always(FILES, "status", status=429, retry_after=3600, after=1),
        EXIT_TRANSIENT,
        "answered 429",
    ),
    Row("address always refused", _always("/lfs/*", "status", status=403), EXIT_TRANSIENT, "asked for a new one"),
    Row("signed address always expired", _always(ONE, "signed", seconds=-1), EXIT_TRANSIENT, "asked for a new one"),
    Row(
        "500 from some point on",
        _always(ONE, "status", status=500, after=4),
        EXIT_TRANSIENT,
        again_bytes=REST_BYTES,
    ),
    Row("listing always 500", _always(API, "status", status=500), EXIT_TRANSIENT, "answered 500", fetches_nothing=True),
    Row(
        "token as redirect",
        _always(FILES, "repeat_token", status=302),
        EXIT_TRANSIENT,
        "did not answer",
        token=TOKEN,
        masked=True,
    ),
    Row(
        "token in every refusal",
        _always(FILES, "repeat_token", status=500),
        EXIT_TRANSIENT,
        "answered 500",
        token=TOKEN,
    ),
    Row(
        "token in every range",
        _always(ONE, "repeat_token", status=206),
        EXIT_TRANSIENT,
        "another Content-",
        token=TOKEN,
    ),
    Row(
        "token in the listing",
        _always(API, "repeat_token", status=503),
        EXIT_TRANSIENT,
        "answered 503",
        token=TOKEN,
        fetches_nothing=True,
    ),
    Row("token where it is gated", _always(FILES, "repeat_token", status=403), EXIT_PERMANENT, "HF_TOKEN", token=TOKEN),
    Row(
        "always wrong bytes",
        _always(ONE, "corrupt", bytes=20_000),
        EXIT_PERMANENT,
        rf"{SHARDS[1]} arrived with wrong content 3 times: expected sha256:\w+, found sha256:\w+; the hub or a proxy",
        again_least_bytes=SHARD_BYTES,
    ),
    Row(
        "always another range under the right name",
        _always(ONE, "misplaced", bytes=500),
        EXIT_PERMANENT,
        f"{SHARDS[1]} arrived with wrong content 3 times",
        again_least_bytes=SHARD_BYTES,
    ),
    Row("gated", _always(API, "gated"), EXIT_PERMANENT, f"{REPO} is gated: accept its terms", fetches_nothing=True),
    Row("one file gated", _always(f"{REPO}/config.json", "gated"), EXIT_PERMANENT, "403 for config.json.*HF_TOKEN"),
    Row(
        "revision goes after the listing",
        _always(FILES, "status", status=404, error_code="RevisionNotFound"),
        EXIT_PERMANENT,
        "answered 404 for .*: the commit or the file is gone; name another revision",
    ),
    Row(
        "disk fills up",
        (),
        EXIT_NO_SPACE,
        "is full.*enlarge",
        spoil=_writes_fail(errno.ENOSPC, SHARD_BYTES),
        again_bytes=HALF_BYTES,
    ),
    Row(
        "quota is used up",
        (),
        EXIT_NO_SPACE,
        "is full.*enlarge",
        spoil=_writes_fail(errno.EDQUOT, SHARD_BYTES),
        again_bytes=HALF_BYTES,
    ),
    Row("too little room", (), EXIT_NO_SPACE, r"\d+ bytes free, \d+ are needed", spoil=_no_room, fetches_nothing=True),
    Row("writes fail", (), EXIT_PERMANENT, "cannot be written.*check the mount", spoil=_writes_fail(errno.EIO, 0)),
    Row(
        "read-only",
        (),
        EXIT_PERMANENT,
        "Read-only.*check the mount",
        spoil=_directories_cannot_be_made,
        fetches_nothing=True,
    ),
    Row(
        "missing revision",
        (),
        EXIT_PERMANENT,
        "'nope' does not exist.*name a branch",
        revision="nope",
        mends=False,
        fetches_nothing=True,
    ),
    Row(
        "missing repository",
        (),
        EXIT_PERMANENT,
        "not there, or private",
        repo="acme/nothing",
        mends=False,
        fetches_nothing=True,
    ),
    Row(
        "no name of a repository",
        (),
        EXIT_PERMANENT,
        "write organisation/name",
        repo="noname",
        mends=False,
        fetches_nothing=True,
    ),
    Row(
        "a name that leads out",
        (),
        EXIT_PERMANENT,
        "write organisation/name",
        repo="../../x",
        mends=False,
        fetches_nothing=True,
    ),
    Row(
        "absent shard", (), EXIT_PERMANENT, "names 1 shards .*00003.*upload them", revision="absent-shard", mends=False
    ),
    Row("absent tensor", (), EXIT_PERMANENT, f"{SHARDS[1]} lacks 1 .*'layer.9'", revision="absent-tensor", mends=False),
    Row("index is none", (), EXIT_PERMANENT, f"{INDEX} is not an index", BROKEN, "index-is-none", mends=False),
    Row("shard cut at its source", (), EXIT_PERMANENT, f"{SHARDS[1]} has .* bytes", BROKEN, "cut-shard", mends=False),
    Row(
        "shard without header", (), EXIT_PERMANENT, f"{SHARDS[1]} is not safetensors", BROKEN, "no-header", mends=False
    ),
]
"""Faults that stay: the run ends in an error that says what to do."""
