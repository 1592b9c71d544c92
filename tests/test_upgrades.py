from __future__ import annotations

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_rollout import upgrades
from llm_rollout.record import Record, Revision, RolloutResult
from llm_rollout.spec import RolloutSpec, Upgrades, Window
from llm_rollout.spec_loading import load_spec
from llm_rollout.upgrades import Seen, Start, Stay, window_open

ROOT = Path(__file__).resolve().parents[1]
NIGHT = Window(days=("sat",), start="22:00", end="04:00", timezone="Europe/Berlin")
DAY = Window(days=("mon", "tue"), start="09:00", end="17:00", timezone="America/New_York")
OLD, NEW = "a" * 40, "b" * 40


def at(text: str, zone: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def serving(commit: str, *runs: RolloutResult) -> Record:
    current = Revision(revision_id="abcdefgh", commit=commit, lws="m-abcdefgh", manifests=())
    return Record(name="m", current=current, rollouts=runs)


@pytest.fixture
def spec() -> RolloutSpec:
    written = load_spec(ROOT / "include/rollouts/tiny-chat.yaml")
    return written.model_copy(update={"upgrades": Upgrades(window=NIGHT)})


INSIDE = at("2026-11-28T23:00", "Europe/Berlin")
OUTSIDE = at("2026-11-28T12:00", "Europe/Berlin")


@pytest.mark.parametrize(
    ("window", "local", "is_open"),
    [
        (NIGHT, "2026-11-28T21:59", False),
        (NIGHT, "2026-11-28T22:00", True),  # Saturday evening
        (NIGHT, "2026-11-29T03:59", True),  # still Saturday's window on Sunday
        (NIGHT, "2026-11-29T04:00", False),
        (NIGHT, "2026-11-28T03:00", False),  # Friday has no window
        (NIGHT, "2026-11-29T23:00", False),  # Sunday has none either
        (DAY, "2026-11-23T09:00", True),
        (DAY, "2026-11-23T17:00", False),
        (DAY, "2026-11-25T12:00", False),  # a Wednesday
    ],
)
def test_a_window_is_open_from_its_start_up_to_its_end(window: Window, local: str, is_open: object):
    assert window_open(window, at(local, window.timezone)) is is_open


def test_a_window_follows_the_clocks_of_its_zone_over_the_year():
    assert window_open(DAY, at("2026-07-06T13:30", "UTC"))  # 09:30 in summer
    assert not window_open(DAY, at("2026-12-07T13:30", "UTC"))  # 08:30 in winter


@given(st.integers(0, 2_000_000_000), st.sampled_from(["00:00", "08:30", "23:59"]))
def test_a_window_that_ends_when_it_starts_is_always_open(now: int, clock: str):
    assert window_open(Window(start=clock, end=clock, timezone="Etc/UTC"), now)


def test_a_new_commit_starts_a_rollout_inside_the_window(spec: RolloutSpec):
    found = upgrades.decide(spec, Seen(NEW, serving(OLD)), INSIDE)
    assert isinstance(found, Start)
    assert (found.commit, found.run_id) == (NEW, "upgrade__" + "b" * 12)


@pytest.mark.parametrize(
    ("commit", "record", "now", "why"),
    [
        (NEW, serving(OLD), OUTSIDE, "window, sat from 22:00 to 04:00 Europe/Berlin"),
        (OLD, serving(OLD), INSIDE, "which serves"),
        (NEW, Record(name="m"), INSIDE, "by hand"),
        (NEW, serving(OLD, RolloutResult(run_id="upgrade__" + "b" * 12, revision=NEW, started=1)), INSIDE, "under way"),
        (
            NEW,
            serving(OLD, RolloutResult(run_id="upgrade__" + "b" * 12, revision=NEW, started=1, outcome="rolled_back")),
            INSIDE,
            "tried (rolled_back)",
        ),
    ],
)
def test_nothing_starts(spec: RolloutSpec, commit: str, record: Record, now: float, why: str):
    found = upgrades.decide(spec, Seen(commit, record), now)
    assert isinstance(found, Stay)
    assert why in found.reason


def test_a_model_without_upgrades_is_left_alone(spec: RolloutSpec):
    found = upgrades.decide(spec.model_copy(update={"upgrades": None}), Seen(NEW, serving(OLD)), INSIDE)
    assert isinstance(found, Stay)
