"""Where an interrupted comparison stood, as one short text: printed after every round, given to the Job that goes on.

The pots go on where they were: begun anew after every interruption they would get another chance each time to cross
the limit by luck. Rounds after the last text that was kept are asked again; which ones are lost does not depend on
what they said, so nothing is promised less.
"""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass
from typing import Any

from llm_rollout.canary import standing_json
from llm_rollout.canary.judge import Standing
from llm_rollout.canary.rotation import Rotation
from llm_rollout.canary.trail import Trail

VERSION = 2
_MOST_BYTES = 1 << 20
"""Of the unpacked text: what is longer was not written here."""


@dataclass(frozen=True)
class Position:
    """An interrupted comparison."""

    standing: Standing
    rotation: dict[str, Any]
    trail: Trail
    asked_of: str
    """Which comparison it is of: pots of other tasks or other limits say nothing here."""


def pack(standing: Standing, rotation: Rotation, trail: Trail, asked_of: str) -> str:
    """The text of letters, digits, ``-``, ``_`` and ``=``."""
    value = [VERSION, asked_of, standing_json.as_json(standing), rotation.position(), trail.as_json()]
    text = json.dumps(value, separators=(",", ":"))
    return base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode()


def unpack(text: str, asked_of: str) -> Position:
    """Read what ``pack`` wrote.

    Raises:
        ValueError: It is something else, or of another comparison.
    """
    position = read(text)
    if position.asked_of != asked_of:
        raise ValueError("it is of a comparison with other tasks, limits or servers: begin this one anew")
    return position


def read(text: str) -> Position:
    """Read what ``pack`` wrote of any comparison.

    Raises:
        ValueError: It is something else.
    """
    try:
        unpacker = zlib.decompressobj()
        unpacked = unpacker.decompress(base64.urlsafe_b64decode(text.encode()), _MOST_BYTES)
        version, asked_of, *held = json.loads(unpacked)
    except (ValueError, TypeError, zlib.error) as error:
        raise ValueError(f"it is cut or was not written by this command ({error})") from None
    if not unpacker.eof:
        raise ValueError("it is cut or was not written by this command (its end is missing)")
    if version != VERSION:
        raise ValueError(f"it has version {version!r}, not {VERSION}: begin the comparison anew")
    try:
        standing, rotation, trail = held
        return Position(standing_json.from_json(standing), rotation, Trail.from_json(trail), asked_of)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"it holds no standing of this judge ({error!r})") from None
