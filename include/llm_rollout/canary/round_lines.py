"""Rounds as lines of JSON: read strictly, because a judge that guesses decides on numbers that nobody measured."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from itertools import repeat
from typing import Any, NoReturn

from llm_rollout.canary.rounds import Answer, Pair
from llm_rollout.errors import Permanent

MOST_MS = 7 * 24 * 3600 * 1000.0
"""A week: no request takes longer, so a larger number is in another unit or no time at all."""
MOST_TOKENS = 100_000_000
"""Far beyond every context window."""
_new = tuple.__new__
"""What a NamedTuple calls in the end."""
_LARGEST_ROUND = 2**63
_SIDES = ("stable", "candidate")


class NotARoundError(Permanent):
    """What a line says that no round can, with the field."""


def read(line: bytes) -> tuple[str, int | None, list[Pair]]:
    """The rollout, the number of the round if it has one, and its pairs."""
    try:
        value = _DECODER.decode(line.removeprefix(BOM_UTF8).decode())
    except NotARoundError:
        raise
    except (ValueError, RecursionError) as error:
        raise NotARoundError(f"it is not JSON: {error}") from error
    if type(value) is not dict:
        raise NotARoundError("it is not an object with rollout and pairs")
    rollout, pairs = value.get("rollout"), value.get("pairs")
    if type(rollout) is not str:
        raise NotARoundError(f"rollout: {_shown(rollout)} is not a string: name the rollout of the round")
    if type(pairs) is not list:
        raise NotARoundError(f"pairs: {_shown(pairs)} is not a list: give the pairs of answers, or [] for none")
    return rollout, _number(value.get("round")), _pairs(pairs)


def _pairs(given: list[Any]) -> list[Pair]:
    """Checked column by column, because a judge on standard input reads thousands of rounds a second."""
    try:
        sides = [pair["stable"] for pair in given] + [pair["candidate"] for pair in given]
        columns = [[*map(dict.get, sides, repeat(name))] for name in _FIELDS]
    except (KeyError, TypeError):
        _complain(given)
    if not all(map(_fit, columns, _LIMITS)):
        columns = [
            [*map(_whole, column)] if kinds == _WHOLE else column
            for column, (kinds, _) in zip(columns, _LIMITS, strict=True)
        ]
        if not all(map(_fit, columns, _LIMITS)):
            _complain(given)
    answers = [*map(_new, repeat(Answer), zip(*columns, strict=True))]
    return [*map(_new, repeat(Pair), zip(answers, answers[len(given) :], strict=False))]


def _not_a_number(text: str) -> NoReturn:
    raise NotARoundError(f"{text} is not a number: give what was measured, or leave the field out")


_DECODER = json.JSONDecoder(parse_constant=_not_a_number)
_NONE = type(None)
_FIELDS = ("ok", "ttft_ms", "total_ms", "tokens", "correct", "prompt_tokens")
_Limit = tuple[set[type], float]
_WHOLE: set[type] = {int, _NONE}
_TIME: _Limit = ({float, int, _NONE}, MOST_MS)
_NUMBER: _Limit = (_WHOLE, MOST_TOKENS)
_LIMITS: tuple[_Limit, ...] = ({bool}, 1), _TIME, _TIME, _NUMBER, ({bool, _NONE}, 1), _NUMBER
_WITHOUT_SIZE: set[type] = {bool, _NONE}


def _fit(column: list[Any], limit: _Limit) -> bool:
    """Whether all that it holds is of the right kind, and neither negative nor absurd."""
    kinds, most = limit
    found = set(map(type, column))
    if found <= _WITHOUT_SIZE:
        return found <= kinds
    known = [one for one in column if one is not None] if _NONE in found else column
    return found <= kinds and min(known) >= 0 and max(known) <= most


def _whole(value: Any) -> Any:
    """64.0 is 64: JSON tells the two apart no more than its writers do."""
    return int(value) if type(value) is float and value.is_integer() else value


def _complain(pairs: list[Any]) -> NoReturn:
    for index, pair in enumerate(pairs):
        if type(pair) is not dict:
            raise NotARoundError(f"pairs[{index}]: {_shown(pair)} is not an object with stable and candidate")
        for side in _SIDES:
            _complain_of(f"pairs[{index}].{side}", pair.get(side))
    raise AssertionError(pairs)


def _complain_of(where: str, value: Any) -> None:
    if type(value) is not dict:
        raise NotARoundError(f"{where}: {_shown(value)} is not an object with ok")
    if type(value.get("ok")) is not bool:
        raise NotARoundError(f"{where}.ok: {_shown(value.get('ok'))} is not true or false")
    if value.get("correct") is not None and type(value["correct"]) is not bool:
        raise NotARoundError(f"{where}.correct: {_shown(value['correct'])} is not true or false: leave it out instead")
    for name in ("ttft_ms", "total_ms"):
        _check(f"{where}.{name}", value.get(name), (float, int), MOST_MS)
    for name in ("tokens", "prompt_tokens"):
        _check(f"{where}.{name}", _whole(value.get(name)), (int,), MOST_TOKENS)


def _check(where: str, value: Any, kinds: tuple[type, ...], most: float) -> None:
    if value is not None and (type(value) not in kinds or not 0 <= value <= most):
        whole = "whole number" if kinds == (int,) else "number"
        raise NotARoundError(f"{where}: {_shown(value)} is not a {whole} from 0 to {most:.0f}")


def _number(given: Any) -> int | None:
    value = _whole(given)
    if value is None or (type(value) is int and 0 <= value < _LARGEST_ROUND):
        return value
    raise NotARoundError(f"round: {_shown(given)} is not a whole number from 0 on: number the rounds, or leave it out")


def _shown(value: Any) -> str:
    text = "nothing" if value is None else ascii(value)
    return text if len(text) <= 40 else text[:37] + "..."  # noqa: PLR2004 - a line of a log
