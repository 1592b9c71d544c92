"""Each way a comparison can end, once, through the real steps; causes are dead servers and wrong weights, not times.

The whole table, times and users included, is ``python -m benchmarks.evaluations``.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.evaluations.arena import Arena, Judged, Serving
from benchmarks.evaluations.cases import CANDIDATE, STABLE, Scene, dies
from benchmarks.evaluations.interruptions import COUNTED, Told, Way, compare
from benchmarks.evaluations.playing import striking
from devcluster.hub import models

pytestmark = [pytest.mark.devcluster, pytest.mark.timeout(600)]

SOON = {"required": COUNTED, "round_pairs": 20, "error_margin": 0.05, "quality_margin": 0.05}
"""Wide margins and small rounds: 140 pairs promote, fewer than 100 name wrong answers."""
SHORTEST_SECONDS = 30


@dataclass(frozen=True)
class Ends:
    """What became of each comparison."""

    good: Told
    wrong: Told
    killed: Told
    refused: Judged
    stable_died: Judged


@pytest.fixture(scope="module")
def ends(cluster: Any) -> Iterator[Ends]:
    """All comparisons of one model, one after the other; the last one outlives its stable."""
    folder = Path(tempfile.mkdtemp())
    bundled = models.bundled() / models.TINY_CHAT
    weights = {"v1": bundled / "v1", "wrong": bundled / "v3"}
    with Arena(cluster.home, weights, folder / "evidence").model("judged", Serving()) as model:
        good = model.candidate(Serving(), SOON)
        as_good = compare(model, good, Way())
        model.conclude(good)
        wrong = model.candidate(Serving(weights="wrong"), SOON)
        whole = compare(model, wrong, Way())
        model.conclude(wrong)
        killed = model.again(wrong)
        gone_on = compare(model, killed, Way(job_at=(40,), task_at=20))
        model.conclude(killed)
        refused = model.again(wrong)
        dies(CANDIDATE)(Scene(model, model.plan(refused)))
        never_reached = model.evaluate(refused)
        model.conclude(refused)
        alone = model.again(good, deadline_seconds=SHORTEST_SECONDS)
        held = model.evaluate(alone, striking(Scene(model, model.plan(alone)), dies(STABLE), 40))
        yield Ends(as_good, whole, gone_on, never_reached, held)
    shutil.rmtree(folder)


def test_a_candidate_that_is_as_good_is_promoted(ends):
    assert (ends.good.judged.end, ends.good.requests) == ("promote", ends.good.judged.pairs)


def test_wrong_weights_are_rolled_back_for_their_answers(ends):
    assert (ends.wrong.judged.end, ends.wrong.judged.metric) == ("rollback", "quality")
    assert ends.wrong.judged.pairs <= 100, "each task has a grade by then"


def test_a_job_that_is_killed_and_a_task_that_is_killed_change_nothing(ends):
    first, second = ends.killed.lives

    assert (first.resumed, second.resumed) == (False, True)
    assert min(second.rounds) == max(first.rounds) + 1, "no pair counts twice"
    assert ends.killed.is_as(ends.wrong)


def test_a_candidate_that_is_not_reached_was_not_judged(ends):
    assert ends.refused.end == "unmeasured"
    assert "nothing was compared" in ends.refused.told


def test_a_dead_stable_neither_promotes_nor_blames_the_candidate(ends):
    assert ends.stable_died.end == "undecided"
    assert ends.stable_died.failed["stable"] > 0
    assert ends.stable_died.failed["candidate"] == 0
    assert "canary.deadline_seconds is over" in ends.stable_died.told
