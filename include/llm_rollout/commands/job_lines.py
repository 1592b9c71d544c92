"""What the commands of the Jobs print and how they end; ``llm_rollout.job_output`` reads it on the other side."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

EXIT_USAGE = 2
EXIT_PERMANENT = 3
EXIT_TRANSIENT = 4
EXIT_NO_SPACE = 5


def tell(line: Mapping[str, Any]) -> None:
    """Print one JSON object on a line of its own, at once: the reader follows the log."""
    print(json.dumps(line), flush=True)


def error(kind: str, message: str, remedy: str) -> dict[str, str]:
    """The last line of a command that did not do its work; ``kind`` is the word of the retry policy."""
    return {"event": "error", "class": kind, "message": message, "remedy": remedy}
