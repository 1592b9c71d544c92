"""Right or wrong, by a rule that needs no judgement. ``docs/task-sets.md`` shows an example of each rule."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from llm_rollout.canary import json_schema

_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d+)?")
_SIGN_OF_MINUS = str.maketrans("\N{MINUS SIGN}", "-")
_LETTER = re.compile(r"[A-Z]")
_ALONE = re.compile(r"[\s*_(\[]*([A-Z])[\s*_)\].:,]*(?:\s.*)?", re.DOTALL)
"""``B``, ``(B)``, ``**B**``, ``B. because`` and ``B) text``: what begins with the letter on its own."""
_SAID = re.compile(r"\b(?:answer|choice|option)\b(?:\s+is)?\s*[:=]?\s*[*_(\[]*([A-Z])\b", re.IGNORECASE)
"""``Answer: B`` and ``The correct answer is (B)``."""
_SMALL = re.compile(r"[\s*_(\[]*([a-z])[\s*_)\].:]*")
_FENCE = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Grader:
    """One rule. ``right`` takes the text given, the answer wanted and the tolerance of numbers."""

    right: Callable[[str, str, float], bool]
    problem: Callable[[str], str]
    """What is wanted in place of an answer that this rule cannot hold a text against; empty if it can."""


def _exact(given: str, wanted: str, _tolerance: float) -> bool:
    return given.strip() == wanted.strip()


def _numeric(given: str, wanted: str, tolerance: float) -> bool:
    found = _numbers(given)
    return bool(found) and math.isclose(found[-1], float(wanted), rel_tol=1e-9, abs_tol=tolerance)


def _numbers(text: str) -> list[float]:
    """All numbers in the order of the text; a hyphen between two of them is no minus."""
    plain = re.sub(r"(?<=\w)-(?=\d)", " ", text.translate(_SIGN_OF_MINUS))
    found = [match[0] for match in _NUMBER.finditer(plain) if any(map(str.isdigit, match[0]))]
    return [float(each.replace(",", "")) for each in found]


def _multiple_choice(given: str, wanted: str, _tolerance: float) -> bool:
    return _choice(given) == wanted


def _choice(text: str) -> str:
    """The letter that a text decides for; the last that it calls its answer, else the one it begins with."""
    said = _SAID.findall(text)
    if said:
        return str(said[-1]).upper()
    alone = _ALONE.fullmatch(text) or _SMALL.fullmatch(text)
    # "A" at the start of a sentence is an article: only a mark behind it makes it a letter.
    if alone and alone[1] == "A" and re.match(r"\s*A\s+\w", text):
        return ""
    return alone[1].upper() if alone else ""


def _regex(given: str, wanted: str, _tolerance: float) -> bool:
    return re.search(wanted, given) is not None


def _json_schema(given: str, wanted: str, _tolerance: float) -> bool:
    fenced = _FENCE.search(given)
    try:
        value = json.loads(fenced[1] if fenced else given)
    except (ValueError, RecursionError):
        return False
    return json_schema.fits(value, json.loads(wanted))


def _number_problem(answer: str) -> str:
    try:
        fine = math.isfinite(float(answer))
    except ValueError:
        fine = False
    return "" if fine else "a number, such as 3.5"


def _letter_problem(answer: str) -> str:
    return "" if _LETTER.fullmatch(answer) else "one letter from A to Z"


def _pattern_problem(answer: str) -> str:
    try:
        re.compile(answer)
    except re.error as error:
        return f"a regular expression ({error})"
    return ""


def _schema_problem(answer: str) -> str:
    try:
        schema = json.loads(answer)
    except ValueError as error:
        return f"a JSON schema ({error})"
    return json_schema.problem(schema)


GRADERS: Mapping[str, Grader] = MappingProxyType({
    "exact": Grader(_exact, lambda _: ""),
    "numeric": Grader(_numeric, _number_problem),
    "multiple_choice": Grader(_multiple_choice, _letter_problem),
    "regex": Grader(_regex, _pattern_problem),
    "json_schema": Grader(_json_schema, _schema_problem),
})  # fmt: skip
"""``exact``: the whole answer without the white space around it. ``numeric``: the last number in the answer.
``multiple_choice``: the letter decided for. ``regex``: found anywhere in the answer. ``json_schema``: the answer, or
the first fenced block in it, is JSON of that shape."""
