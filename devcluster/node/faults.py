"""Faults that ``devcluster fault add`` asks for, applied when a container starts."""

from __future__ import annotations

import fnmatch
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from devcluster.layout import Layout

Fault = dict[str, Any]


class Faults:
    """Reads the file anew each time and counts how often each fault has struck."""

    def __init__(self, layout: Layout) -> None:
        self._file = layout.faults_file
        self._struck: Counter[str] = Counter()

    def strike(self, pod: str, container: str, kinds: Sequence[str]) -> Fault | None:
        """The first fault of these kinds that is meant for this container and not used up; it counts as used."""
        for fault in json.loads(self._file.read_text()):
            if fault["kind"] in kinds and self._meant(fault, pod, container):
                self._struck[fault["id"]] += 1
                return dict(fault)
        return None

    def _meant(self, fault: Fault, pod: str, container: str) -> bool:
        left = fault.get("times") is None or self._struck[fault["id"]] < fault["times"]
        return (
            left and fnmatch.fnmatch(pod, fault["pods"]) and fnmatch.fnmatch(container, fault.get("container") or "*")
        )


def command(fault: Fault | None, argv: Sequence[str]) -> list[str]:
    """The command to run instead of ``argv``."""
    if fault is None:
        return list(argv)
    code, seconds = int(fault.get("exit_code") or 1), float(fault.get("seconds") or 0)
    scripts = {
        "crash": f'echo "devcluster fault: crash"; exit {code}',
        "crash_after": f'"$@" & child=$!; sleep {seconds}; echo "devcluster fault: crash"; kill -9 $child; exit {code}',
        "hang": "exec sleep infinity",
        "slow_start": f'sleep {seconds}; exec "$@"',
    }
    return ["/bin/sh", "-c", scripts[fault["kind"]], "sh", *argv]


IN_CONTAINER = ("crash", "crash_after", "hang", "slow_start")
