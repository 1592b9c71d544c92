"""Pure: which files of a repository are staged, and whether they make a model that can be served."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from llm_rollout.errors import Permanent
from llm_rollout.ports import HubCommit, HubFile

DEFAULT_EXCLUDE = ("original/*", "*.pth", "consolidated*")
"""Second copies of the same weights in other layouts, which would double the bytes."""
INDEX = "model.safetensors.index.json"
MANIFEST = ".manifest.json"
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "*.tiktoken")
_NUMBERED_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
_MOST_NAME_BYTES = 255
"""The longest file name that ext4, XFS, NFS and Lustre take."""


@dataclass(frozen=True)
class Digest:
    """What proves a file's content: ``sha256`` for large files, ``git-sha1`` (a git blob id) for small ones."""

    algorithm: str
    hex: str

    def __str__(self) -> str:
        """As people write it: ``sha256:ab…``."""
        return f"{self.algorithm}:{self.hex}"

    @classmethod
    def parse(cls, text: str) -> Digest:
        """The digest that ``str`` wrote."""
        algorithm, _, digits = text.partition(":")
        return cls(algorithm, digits)

    def begin(self, size_bytes: int) -> hashlib._Hash:
        """A computation that ends in ``hex`` when fed with the content, which has ``size_bytes``."""
        if self.algorithm == "sha256":
            return hashlib.sha256(usedforsecurity=False)
        return hashlib.sha1(b"blob %d\0" % size_bytes, usedforsecurity=False)


@dataclass(frozen=True)
class File:
    """One file to stage; ``path`` is relative, with ``/``, and safe to join to a directory."""

    path: str
    size_bytes: int
    digest: Digest


def choose(commit: HubCommit, include: Sequence[str], exclude: Sequence[str]) -> tuple[File, ...]:
    """The files that ``include`` (all when empty) takes and ``exclude`` leaves, in path order.

    Patterns are the hub's: ``fnmatch``, where ``*`` crosses ``/``.

    Raises:
        Permanent: A name that could leave the directory, a file without digest, or no model among the files.
    """
    taken = (_file(file) for file in commit.files if is_chosen(file.path, include, exclude))
    files = tuple(sorted(taken, key=lambda file: file.path))
    _refuse_clashes(files)
    _refuse_incomplete(files)
    return files


def is_chosen(path: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Whether ``include`` (all when empty) takes the file and ``exclude`` leaves it."""
    return _matches(path, include or ("*",)) and not _matches(path, exclude)


def named_shards(index: bytes) -> Mapping[str, frozenset[str]]:
    """By shard, the tensors that the index expects in it.

    Raises:
        Permanent: The index is not the JSON that transformers writes.
    """
    try:
        weight_map = json.loads(index)["weight_map"]
        pairs = [(str(tensor), str(shard)) for tensor, shard in weight_map.items()]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Permanent(f"{INDEX} is not an index: it has no JSON object `weight_map`; fix the repository") from None
    return {shard: frozenset(tensor for tensor, place in pairs if place == shard) for _, shard in pairs}


def refuse_absent_shards(files: Iterable[File], shards: Iterable[str]) -> None:
    """Raise Permanent where the index names a shard that is not among the files."""
    absent = sorted(set(shards) - {file.path for file in files})
    if absent:
        raise Permanent(
            f"{INDEX} names {len(absent)} shards that the repository's files lack, the first is {absent[0]!r}: "
            "upload them, or check --include and --exclude"
        )


def _matches(path: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in patterns)


def _file(file: HubFile) -> File:
    _refuse_unsafe(file.path)
    digest = Digest("sha256", file.sha256) if file.sha256 else Digest("git-sha1", file.git_sha1 or "")
    length = 64 if digest.algorithm == "sha256" else 40
    if not re.fullmatch(rf"[0-9a-f]{{{length}}}", digest.hex):
        raise Permanent(f"the hub names no usable digest of {file.path!r}: its content could not be proven")
    if type(file.size_bytes) is not int or file.size_bytes < 0:
        raise Permanent(f"the hub names no size of {file.path!r}")
    return File(file.path, file.size_bytes, digest)


def _refuse_unsafe(path: str) -> None:
    parts = path.split("/")
    unsafe = (
        not path.isprintable()
        or "\\" in path
        or any(part in {"", ".", ".."} or len(part.encode()) > _MOST_NAME_BYTES for part in parts)
        or parts[0] == MANIFEST
    )
    if unsafe:
        raise Permanent(f"the repository has a file named {path!r}, which could be written outside of its directory")


def _refuse_clashes(files: Sequence[File]) -> None:
    paths = Counter(file.path for file in files)
    folders = {path[: at.start()] for path in paths for at in re.finditer("/", path)}
    if clashing := sorted(path for path, times in paths.items() if times > 1 or path in folders):
        raise Permanent(f"the repository lists {clashing[0]!r} twice, or as a file and as a directory")


def _refuse_incomplete(files: Sequence[File]) -> None:
    paths = [file.path for file in files]
    numbered = [path for path in paths if _NUMBERED_SHARD.fullmatch(path)]
    needed = {
        "config.json": "config.json" in paths,
        "a tokenizer (tokenizer.json or tokenizer.model)": any(_matches(path, _TOKENIZERS) for path in paths),
        INDEX: not numbered or INDEX in paths,
        "weights": any(path.endswith((".safetensors", ".bin", ".gguf", ".pt")) for path in paths),
    }
    if absent := [what for what, there in needed.items() if not there]:
        raise Permanent(
            f"of {len(paths)} chosen files none is {absent[0]}: no engine could serve this; "
            "check the repository, --include and --exclude"
        )
