"""Scheduled upgrades: whether a model's upstream revision has moved, and whether now is the time to follow it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from llm_rollout import record
from llm_rollout.ports import Ports
from llm_rollout.record import Record
from llm_rollout.spec import RolloutSpec, Window

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_COMMIT_DIGITS = 12
"""Of the commit in a run's id: enough to be unique, short enough to read."""


@dataclass(frozen=True)
class Seen:
    """What upstream offers, and what the record says."""

    commit: str
    record: Record


@dataclass(frozen=True)
class Start:
    """Start a rollout."""

    commit: str
    run_id: str
    """The same for the same commit, so that a commit is tried once however often one looks."""
    reason: str


@dataclass(frozen=True)
class Stay:
    """Start nothing."""

    reason: str


def observe(spec: RolloutSpec, ports: Ports) -> Seen:
    """Read the upstream commit and the record.

    Raises:
        Permanent: The repository or the revision does not exist, or is gated.
        Transient: The hub or the cluster did not answer.
    """
    commit = ports.hub.resolve(spec.model.repo, spec.model.revision, spec.model.endpoint).commit
    return Seen(commit, record.load(ports.cluster, spec.namespace, spec.name))


def decide(spec: RolloutSpec, seen: Seen, now: float) -> Start | Stay:
    """Start where upstream differs from what serves, inside the window, once for each commit.

    Only commits are followed. A first deployment, and a changed server part, are a person's decision.
    """
    if spec.upgrades is None:
        return Stay(f"{spec.name} has no upgrades in its spec")
    current, short = seen.record.current, seen.commit[:_COMMIT_DIGITS]
    if current is None:
        return Stay(f"nothing of {spec.name} serves yet: trigger its first rollout by hand")
    if current.commit == seen.commit:
        return Stay(f"{spec.model.revision} is at {short}, which serves")
    tried = seen.record.run(_run_id(seen.commit))
    if tried is not None:
        return Stay(f"{short} was tried ({tried.outcome or 'under way'}): clear or trigger that rollout to try again")
    if not window_open(spec.upgrades.window, now):
        return Stay(f"{short} is new and waits for the window, {in_words(spec.upgrades.window)}")
    return Start(
        seen.commit, _run_id(seen.commit), f"{spec.model.revision} moved from {current.commit[:12]} to {short}"
    )


def window_open(window: Window, now: float) -> bool:
    """Whether a maintenance window is open: from ``start`` up to and without ``end``, on the wall clocks of its zone.

    A window that ends before it starts reaches into the next day and belongs to the day on which it starts. One that
    ends when it starts is open all day. Where clocks are put forward or back, wall clock times decide.
    """
    local = datetime.fromtimestamp(now, UTC).astimezone(ZoneInfo(window.timezone))
    start, end = time.fromisoformat(window.start), time.fromisoformat(window.end)
    clock = local.time()
    today, yesterday = (_day(local - timedelta(days=back)) in window.days for back in (0, 1))
    if start < end:
        return today and start <= clock < end
    return (today and clock >= start) or (yesterday and clock < end)


def in_words(window: Window) -> str:
    """The window as a person says it."""
    days = "every day" if len(set(window.days)) == len(_DAYS) else ", ".join(window.days)
    return f"{days} from {window.start} to {window.end} {window.timezone}"


def _day(local: datetime) -> str:
    return _DAYS[local.weekday()]


def _run_id(commit: str) -> str:
    return f"upgrade__{commit[:_COMMIT_DIGITS]}"
