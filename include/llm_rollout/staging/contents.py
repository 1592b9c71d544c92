"""Read what a store holds and how old it is, without touching it. What is not understood is refused, never guessed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_rollout.errors import Permanent
from llm_rollout.staging.listing import MANIFEST, Digest
from llm_rollout.staging.store import Store, arriving

_HEX = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_BLOCK_BYTES = 512
"""The unit of ``st_blocks``, whatever the file system's own is."""


@dataclass(frozen=True)
class Commit:
    """A published commit. ``confirmed_ns`` is its manifest's time: when it was published or last asked for."""

    repo: str
    commit: str
    confirmed_ns: int
    digests: frozenset[Digest]

    def __str__(self) -> str:
        """As ``--root`` takes it."""
        return f"{self.repo}@{self.commit}"


@dataclass(frozen=True)
class Kept:
    """Bytes on the store, and when they were last written, linked or renamed, in seconds since the epoch."""

    size_bytes: int
    changed: float


@dataclass(frozen=True)
class Contents:
    """Everything on a store that can be collected."""

    commits: tuple[Commit, ...]
    blobs: Mapping[Digest, Kept]
    partials: Mapping[Digest, Kept]


def read(store: Store) -> Contents:
    """List commits, content and partials. Without the lock something may go meanwhile: that is left out.

    Raises:
        Permanent: A published directory has no manifest that says what it needs.
    """
    return Contents(tuple(_commits(store)), dict(_blobs(store)), dict(_partials(store)))


def confirmed_ns(folder: Path) -> int | None:
    """The time of a commit's manifest, None where there is none. Opened, because NFS answers ``stat`` from memory."""
    try:
        with (folder / MANIFEST).open("rb") as stream:
            return os.fstat(stream.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None


def _commits(store: Store) -> Iterator[Commit]:
    for repository in _entries(store.models):
        for folder in _entries(repository) if repository.is_dir() else ():
            # The time before the text: a manifest that is written anew in between then counts as touched.
            if folder.is_dir() and (seen := confirmed_ns(folder)) is not None:
                yield _commit(folder, seen)
            elif folder.is_dir():
                raise _unreadable(folder, "is not there")


def _commit(folder: Path, seen_ns: int) -> Commit:
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        repo, commit = str(manifest["repo"]), str(manifest["commit"])
        digests = frozenset(_digest(entry) for entry in manifest["files"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(folder, f"cannot be read ({type(error).__name__})") from None
    if (repo.replace("/", "--"), commit) != (folder.parent.name, folder.name) or folder.is_symlink():
        raise _unreadable(folder, f"is of {repo}@{commit}, which is published elsewhere")
    return Commit(repo, commit, seen_ns, digests)


def _digest(entry: Mapping[str, Any]) -> Digest:
    digest = Digest.parse(entry["digest"])
    if not digest.algorithm or not _HEX.fullmatch(digest.hex):
        raise ValueError(entry)
    return digest


def _unreadable(folder: Path, what: str) -> Permanent:
    return Permanent(
        f"{folder / MANIFEST} {what}, so nobody knows which content it needs, and nothing was removed: stage that "
        "commit again, which writes its manifest anew, or move the directory out of models"
    )


def _blobs(store: Store) -> Iterator[tuple[Digest, Kept]]:
    for algorithm in _entries(store.root / "blobs"):
        for shelf in _entries(algorithm):
            for path in _entries(shelf):
                # What has another name, as NFS gives to files that are open when they are deleted, is not content.
                if _HEX.fullmatch(path.name) and (found := _status(path)):
                    yield Digest(algorithm.name, path.name), Kept(found.st_size, _changed(found))


def _partials(store: Store) -> Iterator[tuple[Digest, Kept]]:
    for folder in _entries(store.root / "partial"):
        found = [one for path in (folder, *_entries(folder)) if (one := _status(path))]
        if found:
            # Room is reserved before the bytes arrive, so the size says little.
            taken = sum(one.st_blocks * _BLOCK_BYTES for one in found[1:])
            yield arriving(folder), Kept(taken, max(map(_changed, found)))


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:
        return None


def _changed(found: os.stat_result) -> float:
    return max(found.st_mtime, found.st_ctime)
