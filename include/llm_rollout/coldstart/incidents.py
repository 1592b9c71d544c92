"""What went wrong in a log: the errors and the ends of tracebacks, each with its class and how much it says."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from typing import Final

from llm_rollout.coldstart.endings import DIED, FINAL, GENERIC, SAYS_NOTHING
from llm_rollout.coldstart.lines import Line
from llm_rollout.coldstart.places import class_of_place, sharpened
from llm_rollout.coldstart.signature import Signature
from llm_rollout.coldstart.signatures import signature_of


class Strength(IntEnum):
    """How much an incident says; less is more."""

    KNOWN = 0
    """A signature names its class."""
    PLACE = 1
    """No signature, but the traceback shows what the engine was at."""
    UNKNOWN = 2
    """An exception that nothing is known of."""
    GENERIC = 3
    """The engine ended."""


@dataclass(slots=True)
class Incident:
    """One error of one process."""

    class_name: str
    strength: Strength
    message: str
    line: Line
    order: int
    soft: bool = False
    """The engine may have gone on: a cause only where it then ended."""
    bare: bool = False
    """A process was killed, and nothing says why."""
    uncaught: bool = False
    """The process ended with it."""
    replaced: bool = False
    """A later exception of the same traceback says it better."""


@dataclass(slots=True)
class _Trace:
    """What is known of the traceback that a process is writing."""

    frames: list[tuple[str, str]] = field(default_factory=list)
    """File and function of each, the innermost last."""
    code: str = ""
    """The source line of the innermost frame."""
    open: bool = True
    """The exception itself is still to come."""
    ignored: bool = False
    chained: Incident | None = None
    incident: Incident | None = None
    linked: bool = False


_EXCEPTION = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?:Error|Exception|Exit|Interrupt|Timeout|Died|Expired)\b")
_ANY_EXCEPTION = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:: |$)")
_WORDLESS = re.compile(r"(?:\w+\.)*[A-Z]\w*:?")
"""An exception without a message: the line that raised it says more."""
_NO_FAILURE = re.compile(r"(?:\w+\.)*(?:SystemExit|GeneratorExit|CancelledError|StopIteration|KeyboardInterrupt)\b")
_FRAME = re.compile(r'  File "(?P<file>[^"\n]{1,500})", line \d+(?:, in (?P<function>.*))?')
_LINKS: Final = ("The above exception was the direct cause", "During handling of the above exception")
_ANSWER = re.compile(r"(?:\w+\.)*(?:HTTPError|HTTPStatusError|HfHubHTTPError)\b")
"""A server's answer: the client that got it knows what it means."""
_IGNORED = re.compile(r"Exception ignored in|--- Logging error ---")
_LONGEST = 2000
_LONGEST_HEAD = 200


class Incidents:
    """Collects the incidents of one log, line by line."""

    def __init__(self) -> None:
        self._traces: dict[str, _Trace] = {}
        self._ignore_next = False

    def of(self, line: Line, order: int) -> Incident | None:
        """The incident that this line tells of; None where it tells of none."""
        text = line.text[:_LONGEST]
        if self._traced(line.source, text):
            ended = "Traceback" in text and GENERIC.search(text) is not None
            return Incident("UNKNOWN", Strength.GENERIC, text, line, order) if ended else None
        trace = self._traces.get(line.source)
        if trace is not None and trace.open:
            return self._exception(line, text, order, trace)
        return self._single(line, text, order, trace)

    def _traced(self, source: str, text: str) -> bool:
        """Whether the line belongs to a traceback, but is not its exception."""
        trace = self._traces.get(source)
        if "Traceback (most recent call last)" in text[:_LONGEST_HEAD]:
            self._begin(source, trace)
        elif text.startswith('  File "'):
            self._frame(source, text, trace)
        elif _IGNORED.match(text):
            self._ignore_next = True
        elif trace is not None and text.startswith(_LINKS):
            trace.linked = True
        else:
            if trace is not None and trace.open and text.startswith("    ") and text.strip(" ^~"):
                trace.code = text.strip()
            return text.startswith("    ") or (trace is not None and trace.open and text.startswith("  "))
        return True

    def _begin(self, source: str, before: _Trace | None) -> None:
        chained = (before.incident or before.chained) if before is not None and before.linked else None
        self._traces[source] = _Trace(ignored=self._ignore_next, chained=chained)
        self._ignore_next = False

    def _frame(self, source: str, text: str, trace: _Trace | None) -> None:
        if trace is None or not trace.open:
            trace = self._traces[source] = _Trace()
        if match := _FRAME.match(text):
            trace.frames.append((match["file"], match["function"] or ""))

    def _exception(self, line: Line, text: str, order: int, trace: _Trace) -> Incident | None:
        if line.level == "" and not _ANY_EXCEPTION.match(text) and not _EXCEPTION.match(text):
            return self._single(line, text, order, None)
        trace.open = False
        if trace.ignored or _NO_FAILURE.match(text):
            return None
        incident = trace.incident = _judged(line, text, order, trace.frames)
        if _WORDLESS.fullmatch(text.strip()) and trace.code:
            incident.message = f"{text.strip()} ({trace.code})"
        incident.soft = incident.soft or _was_handled(incident)
        incident.uncaught = line.level == "" and trace.frames[:1] != [] and trace.frames[0][1] == "<module>"
        chained = trace.chained
        if chained is not None and _says_less(chained, incident):
            chained.replaced = True
        return incident

    def _single(self, line: Line, text: str, order: int, trace: _Trace | None) -> Incident | None:
        """A line outside of a traceback, or one that goes on with an exception's message."""
        raised = _EXCEPTION.match(text) is not None
        if SAYS_NOTHING.match(text) and not (raised and line.level == ""):
            return None
        signature = _known(text)
        if signature is None:
            return Incident("UNKNOWN", Strength.GENERIC, text, line, order) if GENERIC.search(text) else None
        told = trace.incident if trace is not None and not signature.bare else None
        told = told if told is not None and told.line.level == line.level else None
        if told is not None and told.strength is Strength.UNKNOWN:
            told.replaced = True
        anybodys = line.level == "" and not raised and told is None and not FINAL.match(text)
        soft = signature.soft or anybodys
        name = signature.class_name
        if name == "BAD_FLAG" and told is not None and told.strength is Strength.PLACE:
            name = told.class_name
        gone = line.level == "" and DIED.match(text) is not None
        return Incident(name, Strength.KNOWN, text, line, order, soft=soft, bare=signature.bare, uncaught=gone)


def _says_less(chained: Incident, last: Incident) -> bool:
    """Whether an exception says less than the one it led to."""
    bare = chained.strength is Strength.UNKNOWN and chained.strength >= last.strength
    nearer = chained.class_name == "MODEL_REF" and last.class_name == "TOKENIZER"
    return bare or nearer or (last.strength is Strength.KNOWN and _ANSWER.match(chained.message) is not None)


def _was_handled(incident: Incident) -> bool:
    """Whether the process logged an exception itself: engines end then, servers mostly go on."""
    return incident.line.level != "" and (
        incident.strength > Strength.KNOWN or incident.line.source.startswith("APIServer")
    )


def _judged(line: Line, text: str, order: int, frames: list[tuple[str, str]]) -> Incident:
    if signature := _known(text):
        soft, bare = signature.soft, signature.bare
        name = sharpened(signature.class_name, frames)
        return Incident(name, Strength.KNOWN, text, line, order, soft=soft, bare=bare)
    if GENERIC.search(text):
        return Incident("UNKNOWN", Strength.GENERIC, text, line, order)
    place = class_of_place(text, frames)
    return Incident(place or "UNKNOWN", Strength.PLACE if place else Strength.UNKNOWN, text, line, order)


@lru_cache(maxsize=4096)
def _known(text: str) -> Signature | None:
    return signature_of(text)
