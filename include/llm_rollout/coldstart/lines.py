"""The lines of an engine's log, without what terminals, collectors and loggers put around the engine's words.

Known wrappings: carriage returns and colours, ``kubectl logs --timestamps`` and ``--prefix``, CRI files, stern, JSON
objects, stamps as docker, systemd and CI runners put them, vLLM's process names and record heads, uvicorn's levels,
torch's rank and glog heads.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, NamedTuple

YEARLESS: Final = 1972
"""The year that times without one are counted in: a leap year, and so long ago that they are known by it."""

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]?|\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[()][0-9A-Za-z]|.?)")
_COLLECTED = re.compile(
    r"\[?(?P<stamp>\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)"
    r"|[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?=\]? \| |\]?[ \t]+(?!(?:- )?[A-Z]{4,8}[ \t:]+(?!\d\d-\d\d )))))\]?"
    r"(?: std(?:out|err) [FP])?(?:$|[ \t](?:\| )?)"
)
_SYSTEMD = re.compile(r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S{1,80} \S{1,80}\[\d+\]: ")
_LEFT_OF_COLOURS = re.compile(
    r"(?:\\x1b|\\033|\\e|(?<!\\u001b)(?<!\\u001B))\[(?:\d{1,2}(?:;\d{1,2}){0,2})?m(?=[( \r\n]|$|[A-Z])"
)
"""What is left of colours where the escape character was lost or spelt, as in pasted logs; JSON's own is kept."""
_POD = re.compile(r"\[pod/[^\]\s]+\] ?")
_NUMBER = r"[ \t]*(?:\[\d{1,7}\]|\d{1,7}[:\t]) ?"
_NUMBERED = re.compile(
    rf"(?m)^{_NUMBER}(?=\((?:API|Engine|Worker|Vllm|Ray)\w*[ _]|\[rank\d|(?:INFO|ERROR|WARNING|DEBUG) \d\d-\d\d )"
)
_NUMBERS = re.compile(rf"(?m)^{_NUMBER}")
"""Numbers that an editor, a grep or a runner put before each line."""
_SERVICE = re.compile(r"[\w.-]{1,100} *\| ")
_STERN = re.compile(r"[a-z0-9][a-z0-9.]*-[a-z0-9.-]{1,100} [a-z0-9][a-z0-9-]{0,60} ")
_STERN_SAYS = ("+ ", "- ")
_MARGIN = re.compile(r"(?:> ?|[ \t]+)(?=(?:\(|\[rank)?[A-Z]\w*[ _].*\d\d:\d\d:\d\d|Traceback \(most recent)")
"""What quoted or set text has before each line, seen before a record or a traceback."""
_RECORD = re.compile(
    r"(?:\([^()\n]{1,120}\bpid=\d+[^()\n]*\) )?(?:DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d \[?\w"
)
"""The head of a vLLM record; what stands before it was put there by a collector."""
_SOURCE = re.compile(r"\((?P<source>[^()\n]{1,120}\bpid=\d+[^()\n]*)\) ?|\[(?P<rank>rank\d+)\]: ?|\[Stage-\d+\] ")
_HEADS = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL) (?P<stamp>\d\d-\d\d \d\d:\d\d:\d\d) \[?[^\]\s]{1,200}\] ?",
        r"(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL):[ \t]+",
        r"\[(?P<level>[IWEF]) [\w.]{1,80}:\d+\] ?",
        r"\[?(?P<level>[IWEF])(?P<stamp>\d{3,4} \d\d:\d\d:\d\d(?:\.\d+)?) (?:\d+ )?[^\]\s]{1,200}\] ?",
        r"(?P<stamp>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:[.,]\d+)?)[ \t]+(?P<level>[A-Z]{4,8})[ \t]+(?:\S{1,80} -- )?",
    )
)
_LEVELS = {"I": "INFO", "W": "WARNING", "E": "ERROR", "F": "CRITICAL", "WARN": "WARNING", "FATAL": "CRITICAL"}
_MESSAGE_KEYS = (
    "message", "msg", "log", "line", "textPayload", "MESSAGE", "@message", "stringValue", "body", "text", "event",
)  # fmt: skip
_WITHIN = ("jsonPayload", "body", "_source")
"""Where collectors put the object that holds the message."""
_TRACE_KEYS = ("exc_info", "exception", "stack_info", "traceback")
_LEVEL_KEYS = ("levelname", "level", "severity", "lvl")
_STAMP_KEYS = ("timestamp", "time", "ts", "@timestamp", "asctime")
_POD_KEYS = ("pod", "pod_name", "kubernetes_pod_name")
_KEEPS_RECORDS = re.compile(
    r'[:{,] ?"(?:\\u00\w\w\[[\d;]*m)?(?:\([^"]{1,200}\) |\\u00\w\w\[[\d;]*m| )*'
    r"(?:DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d \[?\w"
)
"""Objects whose messages are whole records were made by a collector, and the level beside them is not the engine's."""
_YEARS = ("20", "[2")
_LONGEST_WRAPPING = 160
_SEEN_OFTEN = 2
_MOST_WRAPPINGS = 100
_RECORDS_LOOKED_AT = 5000
_LOOKED_AT_FOR_SERVICES = 20_000
_LONGEST_LINE = 100_000


@dataclass(frozen=True, slots=True)
class Line:
    """One line, or one state of a progress bar that rewrites its line."""

    number: int
    """In the file, from 1."""
    text: str
    """The engine's own words, their indentation kept."""
    level: str = ""
    """DEBUG, INFO, WARNING, ERROR or CRITICAL; "" where nothing says it, as in tracebacks."""
    source: str = ""
    """The process that wrote it, as the log names it; "" where it does not."""
    stamp: str = ""
    """The time as it was written; :func:`seconds` reads it."""
    pod: str = ""
    """What a collector put before the line to tell pods apart."""


class _Wrappings(NamedTuple):
    """What a collector did to a whole log."""

    literal: tuple[str, ...]
    objects_of_records: bool


def lines(text: str) -> Iterator[Line]:
    """The lines of a log, in order; several with one number where bars or JSON objects hold several."""
    text = text.removeprefix("\ufeff")
    if "\x1b" in text:
        text = _ESCAPES.sub("", text)
    elif "[0m" in text:
        text = _LEFT_OF_COLOURS.sub("", text)
    if len(list(islice(_NUMBERED.finditer(text), _SEEN_OFTEN))) == _SEEN_OFTEN:
        text = _NUMBERS.sub("", text)
    wrappings = _Wrappings(_wrappings(text), text[:1] == "{" and _KEEPS_RECORDS.search(text) is not None)
    for number, whole in enumerate(text.split("\n"), start=1):
        for part in _cut(whole).split("\r") if "\r" in whole else (whole[:_LONGEST_LINE],):
            if part and not part.isspace():
                yield from (line for line in _unwrapped(Line(number, part), wrappings) if line.text.strip())


def seconds(stamp: str, year: int | None) -> float | None:
    """The time of a line in seconds since the epoch; in ``YEARLESS`` where neither stamp nor ``year`` names one.

    Stamps without a zone are taken as UTC, which is what containers log in.
    """
    try:
        if stamp[4:5] == "-":
            told = datetime.fromisoformat(stamp.replace(",", "."))
            return (told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp()
        day, _, clock = stamp.partition(" ")
        day = day.zfill(4)
        return datetime.fromisoformat(f"{year or YEARLESS}-{day[:2]}-{day[-2:]}T{clock[:15]}+00:00").timestamp()
    except ValueError:
        return None


def names_a_year(stamp: str) -> bool:
    """Whether a stamp says in which year it was written."""
    return stamp[4:5] == "-"


def _cut(bars: str) -> str:
    """The first and the last states of progress bars that fill a line."""
    half = _LONGEST_LINE // 2
    return bars if len(bars) <= _LONGEST_LINE else f"{bars[:half]}\r{bars[-half:]}"


def _wrappings(text: str) -> tuple[str, ...]:
    """What collectors put before every line, found before the heads of records; the longest first."""
    found: Counter[str] = Counter()
    for count, match in enumerate(_RECORD.finditer(text)):
        if count >= _RECORDS_LOOKED_AT:
            break
        window = text[max(0, match.start() - _LONGEST_WRAPPING - 1) : match.start()]
        before = window[max(window.rfind("\n"), window.rfind("\r")) + 1 :]
        if 0 < len(before) <= _LONGEST_WRAPPING:
            found[_SYSTEMD.sub("", _COLLECTED.sub("", before))] += 1
    ranked = found.most_common(_MOST_WRAPPINGS)
    often = {words for words, times in ranked if words.strip() and times >= _SEEN_OFTEN and words[0] not in "({"}
    return tuple(sorted(often | _services(text), key=len, reverse=True))


def _services(text: str) -> set[str]:
    """What docker compose, stern or who quotes puts before lines, where it stands before all of the first ones."""
    rows = [row for row in text[:_LOOKED_AT_FOR_SERVICES].split("\n")[:-1] if row.strip()]
    margins = {match[0] for row in rows if (match := _MARGIN.match(row))}
    margin = min(margins, key=len, default="")
    if margin and len(rows) > 1 and all(row.startswith(margin.rstrip(" ") or margin) for row in rows):
        return {margin, margin.rstrip(" ") or margin}
    matches = [match for row in rows if (match := _SERVICE.match(row))]
    if len(matches) == len(rows) > 1:
        return {match[0] for match in matches}
    told = [match for row in rows if row[:2] not in _STERN_SAYS and (match := _STERN.match(row))]
    whole = len(told) == sum(row[:2] not in _STERN_SAYS for row in rows) > 1
    return {match[0] for match in told} if whole else set()


def _unwrapped(line: Line, wrappings: _Wrappings) -> Iterator[Line]:
    line = _uncollected(line, wrappings)
    if line.text.startswith("{") and line.text.rstrip().endswith("}"):
        told = _json(line.text)
        if told is not None:
            yield from _from_json(line, told, wrappings)
            return
    yield _headless(line)


def _uncollected(line: Line, wrappings: _Wrappings) -> Line:
    """``line`` without what collectors put before it, in whatever order they did."""
    text, stamp, pod = line.text, line.stamp, line.pod
    while True:
        if text[:2] in _YEARS and (match := _COLLECTED.match(text)):
            text, stamp = text[match.end() :], stamp or match["stamp"]
        elif text[6:7] == " " and text[9:10] == ":" and (match := _SYSTEMD.match(text)):
            text = text[match.end() :]
        elif text[:5] == "[pod/" and (match := _POD.match(text)):
            text, pod = text[match.end() :], match[0]
        elif wrapping := next((each for each in wrappings.literal if text.startswith(each)), ""):
            text, pod = text[len(wrapping) :], wrapping
        else:
            return Line(line.number, text, line.level, line.source, stamp, pod)


def _headless(line: Line) -> Line:
    """``line`` without the heads of vLLM, uvicorn, torch and glog."""
    text, source = line.text, line.source
    while text[:1] in "([" and (match := _SOURCE.match(text)):
        text, source = text[match.end() :], match["source"] or match["rank"] or source
    for head in _HEADS:
        if match := head.match(text):
            stamp = match.groupdict().get("stamp") or ""
            level = _LEVELS.get(match["level"], match["level"])
            return Line(line.number, text[match.end() :], level, source, line.stamp or stamp, line.pod)
    return Line(line.number, text, line.level, source, line.stamp, line.pod)


def _json(text: str) -> dict[str, Any] | None:
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict):
        return None
    for key in _WITHIN:
        told = told | told[key] if isinstance(told.get(key), dict) else told
    return told if _first(told, _MESSAGE_KEYS) else None


def _from_json(line: Line, told: dict[str, Any], wrappings: _Wrappings) -> Iterator[Line]:
    level = "" if wrappings.objects_of_records else _first(told, _LEVEL_KEYS).upper()
    name, pid = _first(told, ("processName", "process_name")), told.get("process")
    level = _LEVELS.get(level, level)
    source = f"{name} pid={pid}" if name and isinstance(pid, int) else line.source
    stamp = line.stamp or _first(told, _STAMP_KEYS)
    about = told.get("kubernetes")
    pod = line.pod or _first(told | about if isinstance(about, dict) else told, _POD_KEYS)
    whole = "\n".join(filter(None, (_first(told, _MESSAGE_KEYS), _first(told, _TRACE_KEYS))))
    for part in whole.replace("\r", "\n").split("\n"):
        if part and not part.isspace():
            words = _ESCAPES.sub("", part) if "\x1b" in part else part
            yield _headless(_uncollected(Line(line.number, words, level, source, stamp, pod), wrappings))


def _first(told: dict[str, Any], keys: tuple[str, ...]) -> str:
    return next((told[key] for key in keys if isinstance(told.get(key), str)), "")
