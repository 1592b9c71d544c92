"""What the study of comparisons counts as right, and that it goes on where it was cut."""

from dataclasses import replace

import pytest

from benchmarks.evaluations import results, tables
from benchmarks.evaluations.arena import Judged
from benchmarks.evaluations.cases import AS_GOOD, CASES
from benchmarks.evaluations.interruptions import UNDISTURBED, Disturbed, Life, Told
from benchmarks.evaluations.pressure import Window
from benchmarks.evaluations.results import Results
from benchmarks.evaluations.users import Request

PROMOTED = Judged("promote", "", 700, 60.0, "not worse")
BACK = Judged("rollback", "errors", 400, 30.0, "worse")


def felt(during):
    """A comparison between two rests, a hundred requests in each, at 300 ms but for a few while comparing."""
    quiet = [Request(0.0, 300.0, "", late=False)] * 100
    rest = Window(False, quiet, 100.0, 0, 1.0)
    return [rest, Window(True, [*quiet[3:], *during], 100.0, 200, 1.0), rest]


def slow(ttft_ms, **changes):
    return [replace(Request(0.0, ttft_ms, "", late=False), **changes)] * 3


@pytest.mark.parametrize(
    ("found", "good"),
    [
        pytest.param(Results(), True, id="nothing played"),
        pytest.param(Results({AS_GOOD: [PROMOTED] * 20}), True, id="as good, promoted"),
        pytest.param(Results({AS_GOOD: [PROMOTED] * 19 + [BACK]}), False, id="as good, rolled back"),
        pytest.param(Results({AS_GOOD: [PROMOTED, replace(PROMOTED, end="undecided")]}), False, id="half held"),
        pytest.param(Results({"errors 2 %": [BACK]}), True, id="regression, found"),
        pytest.param(Results({"TTFT +10 %": [BACK]}), False, id="regression, by another name"),
        pytest.param(Results({"stable dies": [PROMOTED]}), False, id="no evidence, promoted"),
        pytest.param(Results(users={"all": [felt(slow(320.0))]}), True, id="users, little"),
        pytest.param(Results(users={"all": [felt(slow(340.0))]}), False, id="users, too much"),
        pytest.param(Results(users={"all": [felt(slow(900.0, late=True))]}), True, id="users, not measured"),
        pytest.param(Results(users={"all": [felt(slow(None, failure="cut"))]}), False, id="users, failed"),
        pytest.param(Results(interrupted={"a": {"b": Disturbed(PROMOTED, 2, 1, 720, same=True)}}), False, id="twice"),
    ],
)
def test_the_goals(found, good):
    assert tables.met(found) is good


def told(*lives, judged=PROMOTED):
    return Told(judged, [Life(resumed=bool(index), rounds=rounds) for index, rounds in enumerate(lives)], 100)


def line(number, pot):
    return {number: {"pairs": 50 * number, "pots": {"errors": {"worse": pot}, "quality": {"worse": 1.0}}}}


def test_a_comparison_that_went_on_is_the_same_if_every_round_is():
    whole = told(line(1, 0.9) | line(2, 0.8))

    assert told(line(1, 0.9), line(2, 0.8)).is_as(whole)
    assert not told(line(1, 0.9), line(2, 0.7)).is_as(whole)
    assert not told(line(1, 0.9)).is_as(whole)
    assert not told(line(1, 0.9), line(2, 0.8), judged=BACK).is_as(whole)
    assert told(line(1, 0.9), line(1, 0.9)).twice == 1


def test_what_was_found_is_read_back(tmp_path):
    ways = {UNDISTURBED: Disturbed(PROMOTED, 1, 0, 700, same=True)}
    found = Results({name: [BACK] for name in CASES}, {"as good": ways}, {"all": [felt(slow(320.0))]})

    results.save(tmp_path / "found.json", found)

    assert results.load(tmp_path / "found.json") == found
    assert results.load(tmp_path / "none.json") == results.load(None) == Results()
