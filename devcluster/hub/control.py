"""The endpoints below ``/devcluster/``: move branches, switch faults on and off, read what was asked for."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from devcluster.hub import faults
from devcluster.hub.journal import Journal
from devcluster.hub.repository import Repository

PATHS = frozenset({"/devcluster/branches", "/devcluster/faults", "/devcluster/requests"})
"""Exact paths: repositories of the organisation ``devcluster`` live below the same first segment."""


class Branches:
    """Which commit each branch points at; moves survive a restart when there is a file to keep them in."""

    def __init__(self, repositories: Mapping[str, Repository], path: Path | None) -> None:
        """Take up the moves kept in ``path`` whose commits still exist."""
        self._repositories = repositories
        self._path = path
        self._lock = threading.Lock()
        kept = json.loads(path.read_text()) if path is not None and path.exists() else {}
        for name, branches in kept.items():
            if name in repositories:
                known = {branch: sha for branch, sha in branches.items() if sha in repositories[name].commits}
                repositories[name].branches.update(known)

    def listed(self) -> dict[str, dict[str, str]]:
        """By repository: branch to commit."""
        return {name: dict(repository.branches) for name, repository in self._repositories.items()}

    def move(self, repo: str, branch: str, revision: str) -> str:
        """Point ``branch`` at a branch or commit and return the commit; KeyError names what does not exist."""
        with self._lock:
            if repo not in self._repositories:
                raise KeyError(f"repo {repo!r} is not served; there are {sorted(self._repositories)}")
            commit = self._repositories[repo].resolve(revision)
            if commit is None:
                raise KeyError(f"commit {revision!r} is not in {repo}; see GET /devcluster/branches")
            self._repositories[repo].branches[branch] = commit.sha
            if self._path is not None:
                self._path.write_text(json.dumps(self.listed()))
            return commit.sha


class State(Protocol):
    """What the endpoints read and change."""

    branches: Branches
    faults: faults.FaultBook
    journal: Journal


def handle(state: State, method: str, path: str, body: bytes) -> tuple[int, Any]:
    """The status and JSON of one control request."""
    try:
        match method, path:
            case "GET", "/devcluster/branches":
                return 200, state.branches.listed()
            case "POST", "/devcluster/branches":
                value = json.loads(body)
                return 200, {"commit": state.branches.move(value["repo"], value["branch"], value["commit"])}
            case "GET" | "POST" | "DELETE", "/devcluster/faults":
                return 200, _faults(state.faults, method, body)
            case "GET" | "DELETE", "/devcluster/requests":
                return 200, _requests(state.journal, method)
            case _:
                return 404, {"error": f"{method} {path}: there are branches, faults and requests"}
    except (ValueError, TypeError, KeyError) as error:
        return 400, {"error": str(error)}


def _faults(book: faults.FaultBook, method: str, body: bytes) -> list[dict[str, Any]]:
    if method == "POST":
        value = json.loads(body)
        book.add([faults.parse(item) for item in (value if isinstance(value, list) else [value])])
    if method == "DELETE":
        book.clear()
    return book.listed()


def _requests(journal: Journal, method: str) -> dict[str, Any]:
    if method == "DELETE":
        journal.clear()
    return journal.summary()
