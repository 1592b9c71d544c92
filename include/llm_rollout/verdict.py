"""The closed vocabulary in which every step answers.

``Done`` and ``Fail`` end a step, ``Act`` asks for one write, ``Wait`` asks to look again later.
"Could not measure" is an exception (see :mod:`llm_rollout.errors`), never one of these values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = Any
"""A value that ``json.dumps`` accepts as it is."""


@dataclass(frozen=True)
class Done:
    """The step's promise holds now.

    ``summary`` is one line for the log and the record; ``evidence`` is what was seen, ready for JSON.
    """

    summary: str
    evidence: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True)
class Act:
    """One idempotent write brings the step nearer to its promise.

    ``plan`` is a value of the step's own type: only that step's ``act`` reads it.
    """

    summary: str
    plan: object


@dataclass(frozen=True)
class Wait:
    """Somebody else has to move first. ``progress`` is what can be shown while waiting."""

    reason: str
    progress: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True)
class Fail:
    """The promise cannot be kept without a person or another plan.

    ``cause`` shows the comparison that failed with its numbers, ``remedy`` what to do about it.
    """

    cause: str
    remedy: str
    evidence: Mapping[str, Json] = field(default_factory=dict)


Verdict = Done | Act | Wait | Fail
