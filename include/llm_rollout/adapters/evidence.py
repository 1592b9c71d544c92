"""Evidence in a directory."""

from __future__ import annotations

from pathlib import Path

from llm_rollout.errors import Permanent


class DirectoryEvidence:
    """``ports.Evidence`` below one folder, which is made when the first text arrives."""

    def __init__(self, root: Path) -> None:
        """Keep everything below ``root``."""
        self._root = root

    def put(self, path: str, text: str) -> str:
        """See ``ports.Evidence``; the address is the file's path."""
        target = (self._root / path).resolve()
        if not target.is_relative_to(self._root.resolve()):
            raise Permanent(f"evidence path {path!r} leaves {self._root}: use a relative path without ..")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        except OSError as error:
            raise Permanent(
                f"evidence cannot be written to {target}: {error.strerror}: give it another folder, or room in this one"
            ) from error
        return str(target)
