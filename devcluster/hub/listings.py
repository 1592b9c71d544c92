"""The JSON bodies of the hub's API."""

from __future__ import annotations

import hashlib
from typing import Any

from devcluster.hub.repository import Commit, File

Json = dict[str, Any]


def model_info(repo: str, commit: Commit, *, blobs: bool) -> Json:
    """``GET /api/models/{repo}``; sizes and digests of the files only with ``blobs``."""
    return {
        "_id": commit.sha[:24],
        "id": repo,
        "modelId": repo,
        "author": repo.partition("/")[0],
        "sha": commit.sha,
        "private": False,
        "gated": False,
        "disabled": False,
        "tags": [],
        "downloads": 0,
        "likes": 0,
        "siblings": [_sibling(file, blobs=blobs) for file in commit.files.values()],
    }


def tree(commit: Commit, folder: str, *, recursive: bool) -> list[Json]:
    """``GET /api/models/{repo}/tree/{revision}/{folder}``: directories and files in path order."""
    prefix = f"{folder}/" if folder else ""
    files = [file for path, file in commit.files.items() if path.startswith(prefix)]
    folders = {part for file in files for part in _parents(file.path) if part.startswith(prefix) and part != folder}
    entries = [_directory(path) for path in folders] + [_tree_file(file) for file in files]
    shown = [entry for entry in entries if recursive or "/" not in entry["path"].removeprefix(prefix)]
    return sorted(shown, key=lambda entry: str(entry["path"]))


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _sibling(file: File, *, blobs: bool) -> Json:
    if not blobs:
        return {"rfilename": file.path}
    entry: Json = {"rfilename": file.path, "size": file.size_bytes, "blobId": file.git_sha1}
    if file.sha256:
        entry["lfs"] = {"sha256": file.sha256, "size": file.size_bytes, "pointerSize": file.pointer_bytes}
    return entry


def _tree_file(file: File) -> Json:
    entry: Json = {"type": "file", "path": file.path, "size": file.size_bytes, "oid": file.git_sha1}
    if file.sha256:
        entry["lfs"] = {"oid": file.sha256, "size": file.size_bytes, "pointerSize": file.pointer_bytes}
    return entry


def _directory(path: str) -> Json:
    oid = hashlib.sha1(path.encode(), usedforsecurity=False).hexdigest()
    return {"type": "directory", "path": path, "size": 0, "oid": oid}
