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
        """The first fault of these kinds that is meant for this container and not used up; it counts as used.

        Of a pull that fails each try counts, so ``times`` says after how many tries the image is there.
        """
        for fault in self._all():
            if fault["kind"] in kinds and self._meant(fault, pod, container):
                self._struck[fault["id"]] += 1
                return dict(fault)
        return None

    def ids(self) -> set[str]:
        """The faults that are switched on now."""
        return {fault["id"] for fault in self._all()}

    def _all(self) -> list[Fault]:
        faults: list[Fault] = json.loads(self._file.read_text())
        return faults

    def _meant(self, fault: Fault, pod: str, container: str) -> bool:
        left = fault.get("times") is None or self._struck[fault["id"]] < fault["times"]
        return (
            left and fnmatch.fnmatch(pod, fault["pods"]) and fnmatch.fnmatch(container, fault.get("container") or "*")
        )


_SCRIPTS = {
    "crash": 'echo "devcluster fault: crash"; exit {code}',
    # Process 1 has no default actions, so SIGTERM has to be handed on. A trapped signal ends a `wait` early, and a
    # shell that has told how a child ended may answer 127 when asked again.
    "crash_after": """
        "$@" & child=$! again=1 ended=
        trap 'kill -TERM $child 2>/dev/null; again=1' TERM
        (sleep {seconds}; kill -9 $child 2>/dev/null) &
        while [ $again = 1 ]; do
            again=0
            wait $child 2>/dev/null; status=$?
            [ $status = 127 ] && [ -n "$ended" ] || ended=$status
        done
        [ $ended = 137 ] || exit $ended
        echo "devcluster fault: crash"
        exit {code}
    """,
    "hang": "exec sleep infinity",
    "slow_start": """
        trap 'exit 143' TERM
        sleep {seconds} & wait
        trap - TERM
        exec "$@"
    """,
}


def command(fault: Fault | None, argv: Sequence[str]) -> list[str]:
    """The command to run instead of ``argv``."""
    if fault is None:
        return list(argv)
    code, seconds = int(fault.get("exit_code", 1)), float(fault.get("seconds") or 0)
    return ["/bin/sh", "-c", _SCRIPTS[fault["kind"]].format(code=code, seconds=seconds), "sh", *argv]


IN_CONTAINER = ("crash", "crash_after", "hang", "slow_start")
