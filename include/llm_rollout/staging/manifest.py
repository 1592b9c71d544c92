"""The manifest of a commit's directory: which files, how long, with which digests, under which name.

::

    {"repo": "org/name", "commit": "40 hex digits", "files": [{"path": "…", "size_bytes": 1, "digest": "sha256:…"}]}
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llm_rollout.errors import Permanent
from llm_rollout.ports import HubCommit, HubFile
from llm_rollout.staging import headers
from llm_rollout.staging.listing import (
    INDEX,
    MANIFEST,
    Digest,
    File,
    choose,
    is_chosen,
    named_shards,
    refuse_absent_shards,
)
from llm_rollout.staging.store import flush, manifest_text
from llm_rollout.staging.verification import read_through

_REPORT_EVERY_SECONDS = 5.0
_NOT_YET = "0" * 64
"""In place of a digest while names are judged: that costs nothing and must not wait for the reading."""


@dataclass(frozen=True)
class Description:
    """What was found and written."""

    commit: str
    path: str
    files: int
    bytes_total: int
    seconds: float


def refuse_no_repository(repo: str) -> None:
    """Raise Permanent where ``repo`` is not ORG/NAME."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", repo, re.ASCII):
        raise Permanent(f"--repo {repo!r} cannot be a repository: write organisation/name")


def parsed(content: bytes, place: str) -> HubCommit:
    """The commit that a manifest describes; its names are for ``listing.choose`` to judge.

    Raises:
        Permanent: It is no manifest.
    """
    try:
        value = json.loads(content)
        commit, files = str(value["commit"]), tuple(_hub_file(entry) for entry in value["files"])
    except (ValueError, KeyError, TypeError, AttributeError):
        commit, files = "", ()
    if not re.fullmatch(r"[0-9a-f]{40}", commit) or not files:
        raise Permanent(f"{place} is no manifest of a model: write it with llm-rollout manifest")
    return HubCommit(commit, files)


def describe(
    folder: Path,
    repo: str,
    include: Sequence[str],
    exclude: Sequence[str],
    tell: Callable[[Mapping[str, Any]], None],
) -> Description:
    """Read every chosen file of a directory and write its manifest, which makes it a source for ``stage``.

    Args:
        folder: A directory with a model.
        repo: ORG/NAME, for those who read the manifest.
        include: Patterns of the files to take, all when empty.
        exclude: Patterns of those to leave.
        tell: Takes one progress line at a time.

    Raises:
        Permanent: It is no model that could be served, has names that cannot be staged, or changes meanwhile.
        OSError: It cannot be read or written.
    """
    started = time.monotonic()
    refuse_no_repository(repo)
    files = _digested(folder, _listed(folder, include, exclude), tell)
    commit = commit_of(files)
    fresh = folder / f"{MANIFEST}.{os.getpid()}"
    try:
        fresh.write_text(manifest_text(repo, commit, files))
        flush(fresh)
        fresh.replace(folder / MANIFEST)
    finally:
        fresh.unlink(missing_ok=True)
    flush(folder)
    return Description(
        commit=commit,
        path=str(folder / MANIFEST),
        files=len(files),
        bytes_total=sum(file.size_bytes for file in files),
        seconds=round(time.monotonic() - started, 3),
    )


def commit_of(files: Sequence[File]) -> str:
    """A name made from the content: the first 40 hex digits of the SHA-256 of the files' sorted list."""
    lines = json.dumps(sorted([file.path, file.size_bytes, str(file.digest)] for file in files), separators=(",", ":"))
    return hashlib.sha256(lines.encode()).hexdigest()[:40]


def _listed(folder: Path, include: Sequence[str], exclude: Sequence[str]) -> tuple[File, ...]:
    """The chosen files, judged by name, size and header before the first of them is read as a whole."""
    if not folder.is_dir():
        raise Permanent(f"{folder} is no directory: name the one that holds the model's files")
    found = ((path.relative_to(folder).as_posix(), path) for path in sorted(folder.rglob("*")) if path.is_file())
    kept = (pair for pair in found if not pair[0].startswith(MANIFEST) and is_chosen(pair[0], include, exclude))
    named = tuple(HubFile(name, path.stat().st_size, sha256=_NOT_YET, git_sha1=None) for name, path in kept)
    files = choose(HubCommit("", named), (), ())
    index = folder / INDEX
    shards = named_shards(index.read_bytes()) if any(file.path == INDEX for file in files) else {}
    refuse_absent_shards(files, shards)
    headers.check({file.path: folder / file.path for file in files}, shards)
    return files


def _digested(folder: Path, files: Sequence[File], tell: Callable[[Mapping[str, Any]], None]) -> list[File]:
    done, spoken = [], time.monotonic()
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for file in _in_order(threads, folder, files):
            done.append(file)
            if time.monotonic() - spoken > _REPORT_EVERY_SECONDS:
                spoken = time.monotonic()
                tell({"event": "progress", "files_done": len(done), "files_total": len(files)})
    return done


def _in_order(threads: ThreadPoolExecutor, folder: Path, files: Sequence[File]) -> Iterator[File]:
    return threads.map(lambda file: _read(folder / file.path, file), files)


def _read(path: Path, file: File) -> File:
    digest = hashlib.sha256(usedforsecurity=False)
    if read_through(path, digest) != file.size_bytes:
        raise Permanent(f"{path} changes while it is read: wait until nobody writes to the directory")
    return replace(file, digest=Digest("sha256", digest.hexdigest()))


def _hub_file(entry: Mapping[str, Any]) -> HubFile:
    digest = Digest.parse(entry["digest"])
    sha256, git_sha1 = (digest.hex if digest.algorithm == name else None for name in ("sha256", "git-sha1"))
    return HubFile(str(entry["path"]), entry["size_bytes"], sha256=sha256, git_sha1=git_sha1)
