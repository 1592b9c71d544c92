"""Simulated rollouts from fixed seeds, so that nothing here is up to chance; ``benchmarks.canary`` plays many more."""

import json
from itertools import islice

import pytest

from benchmarks.canary.kept import Kept
from benchmarks.canary.study import FIRST_SEED, OURS, study
from benchmarks.canary.worlds import HIDDEN, HOLD, NULLS, QUIET, REGRESSIONS, WORSE
from llm_rollout.canary import standing_json
from llm_rollout.canary.judge import Judge
from llm_rollout.canary.rules import Rules


def named(worlds):
    return [pytest.param(world, id=world.name) for world in worlds]


def tally(world, runs):
    # Other seeds than those of the study, which nobody looks at while the limits of the judge are chosen.
    return study(((OURS,), world, range(-FIRST_SEED, runs - FIRST_SEED)))[1][OURS, world.name]


@pytest.mark.parametrize("world", named(NULLS))
def test_as_good_as_stable_is_seldom_rolled_back(world):
    assert tally(world, 25).ends("rollback") <= 1


@pytest.mark.parametrize("world", named(REGRESSIONS))
def test_a_regression_is_found(world):
    found = tally(world, 25)

    assert found.ends("rollback") >= 22
    assert found.ends("promote") <= 2


@pytest.mark.parametrize("world", named(QUIET))
def test_an_odd_world_is_no_reason_to_roll_back(world):
    assert tally(world, 5).ends("rollback") <= 1


@pytest.mark.parametrize("world", named(WORSE))
def test_a_regression_in_an_odd_world_is_found(world):
    found = tally(world, 8)

    assert found.ends("rollback") >= 7
    assert found.ends("promote") <= 1


@pytest.mark.parametrize("world", named(HIDDEN))
def test_a_regression_that_chance_hides_is_not_promoted(world):
    assert tally(world, 6).ends("promote") <= 1


@pytest.mark.parametrize("world", named(HOLD))
def test_where_there_is_no_evidence_it_holds(world):
    assert tally(world, 5).ends("undecided") == 5


def test_a_promotion_comes_soon():
    assert tally(NULLS[0], 25).median_pairs("promote") <= 1300


def test_a_standing_stored_after_any_round_goes_on_as_if_it_never_stopped():
    judge, rounds = Judge(Rules()), list(islice(REGRESSIONS[1].rounds(1), 20))
    standings = [judge.begin()]
    for pairs in rounds:
        standings.append(judge.after(standings[-1], pairs[:33]))
        standings[-1] = judge.after(standings[-1], pairs[33:])
    for at, standing in enumerate(standings[:-1]):
        resumed = standing_json.from_json(json.loads(json.dumps(standing_json.as_json(standing))))
        assert resumed == standing
        assert judge.after(judge.after(resumed, rounds[at][:33]), rounds[at][33:]) == standings[at + 1]


def test_a_standing_of_another_version_is_refused():
    with pytest.raises(ValueError, match="version: 0 is not"):
        standing_json.from_json(standing_json.as_json(Judge(Rules()).begin()) | {"version": 0})


def test_a_standing_is_small():
    judge = Judge(Rules())
    standing = judge.begin()
    for pairs in NULLS[0].rounds(0):
        standing = judge.after(standing, pairs)
    assert len(json.dumps(standing_json.as_json(standing))) < 10_000


def test_a_study_that_was_cut_short_goes_on_where_it_was(tmp_path):
    file = tmp_path / "found"
    tasks = [((rule,), NULLS[0], range(2)) for rule in (OURS, "Kayenta, once")]
    for task in tasks:
        Kept(file).keep(*study(task))
    file.write_text(file.read_text()[:-20])

    assert Kept(file).found(tasks[0]) == study(tasks[0])[1]
    assert Kept(file).found(tasks[1]) is None
    assert Kept(file).found((tasks[0][0], NULLS[0], range(3))) is None
