"""Repositories, commits and files as the hub serves them, read from ``ORG/NAME/BRANCH/...`` on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

LFS_FROM_BYTES = 64 * 1024
_BLOCK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class File:
    """One file of a commit.

    ``git_sha1`` is the git blob id: of the content for small files, of the LFS pointer for large ones,
    whose ``sha256`` is then set.
    """

    path: str
    size_bytes: int
    git_sha1: str
    sha256: str | None
    source: Path

    @property
    def etag(self) -> str:
        """What the hub answers as ETag: the digest of the content."""
        return self.sha256 or self.git_sha1

    @cached_property
    def pointer_bytes(self) -> int:
        """The size of the LFS pointer that git holds in place of a large file."""
        return len(_pointer(self.sha256 or "", self.size_bytes))


@dataclass(frozen=True)
class Commit:
    """A frozen set of files. ``sha`` is 40 hex digits derived from paths and contents alone."""

    sha: str
    files: Mapping[str, File]


@dataclass
class Repository:
    """Commits by sha and branches that point at them."""

    name: str
    commits: dict[str, Commit]
    branches: dict[str, str]

    def resolve(self, revision: str) -> Commit | None:
        """The commit behind a branch, a full sha or an unambiguous prefix of one (7 digits or more)."""
        sha = self.branches.get(revision, revision)
        if sha in self.commits:
            return self.commits[sha]
        matches = [commit for known, commit in self.commits.items() if len(sha) >= 7 and known.startswith(sha)]  # noqa: PLR2004 - git's shortest prefix
        return matches[0] if len(matches) == 1 else None


def load(root: Path) -> dict[str, Repository]:
    """Every repository below ``root``; a repository without ``main`` gets one that equals its first branch."""
    folders = sorted(path for path in root.glob("*/*") if path.is_dir())
    repositories = (_repository(f"{folder.parent.name}/{folder.name}", folder) for folder in folders)
    return {repository.name: repository for repository in repositories}


def _repository(name: str, folder: Path) -> Repository:
    by_branch = {path.name: _commit(path) for path in sorted(folder.iterdir()) if path.is_dir()}
    branches = {branch: commit.sha for branch, commit in by_branch.items()}
    if branches:
        branches.setdefault("main", next(iter(branches.values())))
    return Repository(name, {commit.sha: commit for commit in by_branch.values()}, branches)


def _commit(folder: Path) -> Commit:
    files = [_file(path, folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    return Commit(_commit_sha(files), {file.path: file for file in files})


def _commit_sha(files: Iterable[File]) -> str:
    lines = "".join(f"{file.path}\0{file.etag}\n" for file in files)
    return hashlib.sha1(lines.encode(), usedforsecurity=False).hexdigest()


def _file(path: Path, root: Path) -> File:
    name, size = path.relative_to(root).as_posix(), path.stat().st_size
    if size < LFS_FROM_BYTES and path.suffix != ".safetensors":
        return File(name, size, _git_sha1(path.read_bytes()), None, path)
    sha256 = _sha256(path)
    return File(name, size, _git_sha1(_pointer(sha256, size)), sha256, path)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _git_sha1(content: bytes) -> str:
    header = b"blob %d\0" % len(content)
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


def _pointer(sha256: str, size_bytes: int) -> bytes:
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size_bytes}\n"
    return text.encode()
