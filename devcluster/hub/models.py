"""Build the bundled models once for each state of the code that makes them."""

from __future__ import annotations

import hashlib
import importlib
import os
import tempfile
from pathlib import Path
from types import ModuleType

TINY_CHAT = "devcluster/tiny-chat"


def bundled() -> Path:
    """A directory ``ORG/NAME/BRANCH/...`` with the bundled models, built when the cache lacks it."""
    models = importlib.import_module("devcluster.models")
    place = cache_directory() / "models" / _digest(models)
    if not place.exists():
        _build(models, place)
    return place


def cache_directory() -> Path:
    """``LLM_ROLLOUT_CACHE``, else ``llm-rollout`` below the user's cache directory."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("LLM_ROLLOUT_CACHE") or base / "llm-rollout")


def _build(models: ModuleType, place: Path) -> None:
    """Build beside ``place`` and rename, so that a killed build leaves nothing that looks whole."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".build-") as scratch:
        out = Path(scratch) / "root" / TINY_CHAT
        out.mkdir(parents=True)
        models.build(out)
        try:
            (Path(scratch) / "root").rename(place)
        except OSError:
            if not place.exists():
                raise


def _digest(models: ModuleType) -> str:
    """Of the package's files and of the task files that the models are made to answer."""
    import llm_rollout  # noqa: PLC0415 - only where models are built

    sources = [path for folder in models.__path__ for path in Path(folder).rglob("*.py")]
    sources += Path(llm_rollout.__file__).parent.glob("canary/tasks/*.jsonl")
    digest = hashlib.sha256()
    for path in sorted(sources, key=lambda path: path.name):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
