"""The store's layout, and the one rename that publishes a commit.

::

    blobs/<algorithm>/<2 hex>/<hex>     content, each once, read-only
    partial/<algorithm>-<hex>/          content that is still arriving, with its journal
    .staging/<number>/                  a commit being put together, or taken out to be deleted
    models/<org>--<name>/<commit>/      what engines read; there as a whole or not at all
    .lock/                              see ``lock``
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llm_rollout.errors import Permanent
from llm_rollout.staging.kernel import exchange
from llm_rollout.staging.listing import MANIFEST, Digest, File

TAKEN_OUT = "taken-out"
RESERVE_BYTES = 16 * 1024 * 1024
RESERVE_PARTS = 100
"""A hundredth of what is missing, and 16 MiB, stay free: file systems slow down and fail when they are full."""
_NO_EXCHANGE = {None, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS, errno.EXDEV}


class NoSpace(Permanent):
    """The store cannot hold what is to be staged. What has arrived stays for the next try."""


@dataclass(frozen=True)
class Store:
    """A directory, as a rule a mounted PVC."""

    root: Path

    def model(self, repo: str, commit: str) -> Path:
        """Where a commit is published."""
        return self.models / repo.replace("/", "--") / commit

    def blob(self, digest: Digest) -> Path:
        """Where content lies."""
        return self.root / "blobs" / digest.algorithm / digest.hex[:2] / digest.hex

    def partial(self, digest: Digest) -> Path:
        """The directory in which content arrives."""
        return self.root / "partial" / f"{digest.algorithm}-{digest.hex}"

    @property
    def models(self) -> Path:
        """The directory of the published commits."""
        return self.root / "models"

    @property
    def lock(self) -> Path:
        """The directory of the lock."""
        return self.root / ".lock"

    def published(self, repo: str, commit: str, files: Sequence[File]) -> bool:
        """Whether all of ``files`` are published, each with its size. Content is for ``verify`` to read."""
        folder = self.model(repo, commit)
        manifest = read_manifest(folder)
        known = {entry["path"]: entry["digest"] for entry in manifest.get("files", [])}
        return all(
            known.get(file.path) == str(file.digest) and _size(folder / file.path) == file.size_bytes for file in files
        )

    def has_blob(self, file: File) -> bool:
        """Whether the content is there; one of another size is damaged and goes."""
        path = self.blob(file.digest)
        size = _size(path)
        if size is not None and size != file.size_bytes:
            path.unlink()
        return size == file.size_bytes

    def refuse_without_space(self, missing_bytes: int) -> None:
        """Raise NoSpace, with both numbers, where the store has less than is missing and a reserve."""
        free = shutil.disk_usage(self.root).free
        needed = missing_bytes + RESERVE_BYTES + missing_bytes // RESERVE_PARTS
        if missing_bytes and free < needed:
            raise NoSpace(
                f"the store {self.root} has {free} bytes free, {needed} are needed ({missing_bytes} missing and a "
                "reserve): enlarge the claim or delete revisions that are no longer served"
            )

    def prepare(self) -> None:
        """Make the directories."""
        for name in ("blobs", "partial", "models", ".staging"):
            (self.root / name).mkdir(parents=True, exist_ok=True)

    def confirm(self, repo: str, commit: str) -> bool:
        """Note, before it is looked at, that a published commit is wanted; whether there is one.

        Garbage collection removes no commit whose manifest was touched after it began. A store that this process may
        only read keeps its times.
        """
        try:
            os.utime(self.model(repo, commit) / MANIFEST)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno not in {errno.EROFS, errno.EPERM, errno.EACCES}:
                raise
        return True

    def taken_out(self, number: int, repo: str, commit: str) -> Path:
        """Where a commit is taken to before it is deleted or replaced; ``number`` is the lock's."""
        return self.root / ".staging" / f"{number:08d}" / TAKEN_OUT / self.model(repo, commit).relative_to(self.models)

    def has_remains(self) -> bool:
        """Whether a process that is gone left something half put together, and this one may remove it."""
        staging = self.root / ".staging"
        return os.access(staging, os.W_OK) and any(staging.iterdir())

    def sweep(self) -> None:
        """Remove what processes that are gone had begun to put together. Only for the holder of the lock."""
        self.clear_staging()
        for folder in (self.root / "partial").iterdir():
            if self.blob(arriving(folder)).exists():
                shutil.rmtree(folder, ignore_errors=True)

    def clear_staging(self) -> None:
        """Empty ``.staging``. A commit taken out by a process that died before it deleted any of it goes back."""
        for left in (self.root / ".staging").iterdir():
            for folder in left.glob(f"{TAKEN_OUT}/*/*"):
                place = self.models / folder.relative_to(left / TAKEN_OUT)
                if (folder / MANIFEST).exists() and not place.exists():
                    folder.rename(place)
            shutil.rmtree(left, ignore_errors=True)

    def adopt(self, data: Path, file: File) -> None:
        """Give proven content its final name."""
        blob = self.blob(file.digest)
        blob.parent.mkdir(parents=True, exist_ok=True)
        data.chmod(0o444)
        flush(data)
        data.rename(blob)
        flush(blob.parent)

    def publish(self, repo: str, commit: str, files: Sequence[File], number: int) -> Path:
        """Put the commit together beside the models, then rename it into place.

        It takes the place of a published commit that lacks something; engines that hold its files open keep them.
        """
        final, scratch = self.model(repo, commit), self.root / ".staging" / f"{number:08d}"
        folder = scratch / commit
        folder.mkdir(parents=True)
        for file in files:
            self._place(file, folder / file.path)
        (folder / MANIFEST).write_text(manifest_text(repo, commit, files))
        flush(folder / MANIFEST)
        for inner in {folder / file.path for file in files}:
            flush(inner.parent)
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.exists():
            self._replace(final, folder, self.taken_out(number, repo, commit))
        else:
            folder.rename(final)
        flush(final.parent)
        shutil.rmtree(scratch)
        return final

    def _replace(self, final: Path, folder: Path, aside: Path) -> None:
        try:
            exchange(folder, final)
        except OSError as error:
            if error.errno not in _NO_EXCHANGE or not folder.exists():
                # Swept by whoever took over: what is published now is theirs and stays.
                raise
            # Two steps where the file system has none; killed between them, ``clear_staging`` puts the old one back.
            aside.parent.mkdir(parents=True)
            final.rename(aside)
            folder.rename(final)

    def _place(self, file: File, place: Path) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        blob = self.blob(file.digest)
        try:
            place.hardlink_to(blob)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # Relative to where the file will be published, three directories further down than the store.
            up = "../" * (3 + file.path.count("/"))
            place.symlink_to(up + blob.relative_to(self.root).as_posix())


def arriving(folder: Path) -> Digest:
    """What arrives in a directory of ``partial``."""
    algorithm, _, digits = folder.name.rpartition("-")
    return Digest(algorithm, digits)


def manifest_text(repo: str, commit: str, files: Sequence[File]) -> str:
    """The manifest of a commit's directory."""
    entries = [{**asdict(file), "digest": str(file.digest)} for file in files]
    return json.dumps({"repo": repo, "commit": commit, "files": entries}, indent=1)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a published commit, empty where there is none that can be read."""
    with contextlib.suppress(OSError, ValueError):
        value = json.loads((folder / MANIFEST).read_text())
        if isinstance(value, dict):
            return value
    return {}


def flush(path: Path) -> None:
    """Have a file's or directory's content survive the loss of the node."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems cannot flush a directory, and need not.
        if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.EBADF}:
            raise
    finally:
        os.close(handle)


def explained(error: OSError, root: Path) -> Permanent:
    """The error of the file system in words, with what to do about it."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return NoSpace(
            f"the store {root} is full ({error.strerror}): enlarge the claim or delete revisions that are no longer "
            "served, then run it again; what has arrived is kept"
        )
    reason = error.strerror or type(error).__name__
    return Permanent(f"the store {root} cannot be written: {reason}; check the mount, its mode and its owner")


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
