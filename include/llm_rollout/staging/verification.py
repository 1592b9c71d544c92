"""Read what a store says it has, every byte, and name what is not as it was staged."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_rollout.errors import Permanent
from llm_rollout.staging.listing import MANIFEST, Digest
from llm_rollout.staging.store import Store, read_manifest

_BLOCK_BYTES = 1024 * 1024
_REPORT_EVERY_SECONDS = 5.0


@dataclass(frozen=True)
class Verification:
    """What a commit's directory holds, compared with its manifest."""

    commit: str
    path: str
    files: int
    bytes_total: int
    missing: tuple[str, ...]
    mismatches: tuple[str, ...]
    seconds: float


def verify(store: Store, repo: str, commit: str, tell: Callable[[Mapping[str, Any]], None]) -> Verification:
    """Compute every digest of a published commit, several files at a time; it needs no hub.

    Raises:
        Permanent: The commit is not published, or its manifest cannot be read.
    """
    started, folder = time.monotonic(), store.model(repo, commit)
    entries = _entries(folder, repo, commit)
    found: dict[str, str | None] = {}
    spoken = started
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        digests = threads.map(lambda entry: _digest(folder / entry["path"], entry), entries)
        for entry, digest in zip(entries, digests, strict=True):
            found[entry["path"]] = digest
            if time.monotonic() - spoken > _REPORT_EVERY_SECONDS:
                spoken = time.monotonic()
                tell({"event": "progress", "files_done": len(found), "files_total": len(entries)})
    return Verification(
        commit=commit,
        path=str(folder),
        files=len(entries),
        bytes_total=sum(entry["size_bytes"] for entry in entries),
        missing=tuple(path for path, digest in found.items() if digest is None),
        mismatches=tuple(e["path"] for e in entries if found[e["path"]] not in {None, e["digest"]}),
        seconds=round(time.monotonic() - started, 3),
    )


def _entries(folder: Path, repo: str, commit: str) -> Sequence[Mapping[str, Any]]:
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise Permanent(f"--commit {commit!r} is not a commit of 40 hex digits: a branch may name another one by now")
    if not folder.is_dir():
        raise Permanent(f"{repo} at {commit} is not published on this store: run llm-rollout stage")
    entries: Sequence[Mapping[str, Any]] = read_manifest(folder).get("files", [])
    if not entries:
        raise Permanent(f"{folder / MANIFEST} cannot be read: run llm-rollout stage, which writes it anew")
    return entries


def read_through(path: Path, computation: hashlib._Hash) -> int:
    """Feed a file to the computation of a digest; returns how many bytes it had."""
    length, buffer = 0, memoryview(bytearray(_BLOCK_BYTES))
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer) or 0:
            computation.update(buffer[:count])
            length += count
    return length


def _digest(path: Path, entry: Mapping[str, Any]) -> str | None:
    """The digest in the manifest's words, None where there is no file."""
    expected = Digest.parse(entry["digest"])
    try:
        computation = expected.begin(path.stat().st_size)
        read_through(path, computation)
    except FileNotFoundError:
        return None
    return str(Digest(expected.algorithm, computation.hexdigest()))
