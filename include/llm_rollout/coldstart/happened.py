"""What events tell of one pod, and when, in seconds since the epoch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from llm_rollout import clock
from llm_rollout.ports import Manifest


def about(events: Iterable[Manifest], pod: Manifest, *reasons: str) -> Iterator[Manifest]:
    """The events of these reasons about this pod, and not about another one of its name."""
    name, uid = pod["metadata"]["name"], pod["metadata"].get("uid", "")
    for event in events:
        told = event.get("involvedObject", {})
        if event.get("reason") in reasons and told.get("name") == name and told.get("uid", uid) == uid:
            yield event


def first(event: Manifest) -> float:
    """When it happened first; the same event again only counts up."""
    moments = (event.get("firstTimestamp"), event.get("eventTime"), event["metadata"].get("creationTimestamp"))
    known = [found for moment in moments if (found := clock.seconds(moment)) is not None]
    return min(known) if known else last(event)


def last(event: Manifest) -> float:
    """When it happened last."""
    series = (event.get("series") or {}).get("lastObservedTime")
    moments = (series, event.get("lastTimestamp"), event.get("eventTime"), event["metadata"].get("creationTimestamp"))
    return max((clock.seconds(moment) or 0.0 for moment in moments), default=0.0)


def one_line(text: str, most: int = 400) -> str:
    """A message on one line, cut where it gets too long."""
    flat = re.sub(r"\s+", " ", text).strip()
    return flat if len(flat) <= most else f"{flat[: most - 1]}…"
