"""Faults whose cells lie around a limit, so that noise puts them on both sides of it. The seeds are fixed."""

import random

import pytest

from benchmarks.fabric.simulation import Bench, Fabric, tellable
from llm_rollout.fabric.judgement import judge
from llm_rollout.fabric.parts import Part

PARTS = [
    [Part("nic", 1, None, 2)],
    [Part("nic", 2, None, 0, "sends")],
    [Part("node", 3)],
    [Part("link", 0, 2, 1)],
    [Part("direction", 3, 1, 4)],
    [Part("rail", None, None, 5)],
    [Part("global")],
    [Part("nic", 0, None, 3), Part("nic", 2, None, 3)],
]


def _outcomes(level, runs=8):
    """Of fabrics of 4, 6 and 12 nodes with each of the faults: how many were named right, how many wrong."""
    right = wrong = 0
    for faults in PARTS:
        for run in range(runs):
            fabric = Fabric((4, 6, 12)[run % 3], tuple((part, level) for part in faults))
            chance = random.Random(f"{faults} {level} {run}")  # noqa: S311 - drawn, no secret
            named = {fault.part.name for fault in judge(Bench(fabric, chance).matrix()).faults}
            right += named == tellable(fabric)
            wrong += bool(named - tellable(fabric))
    return right / (runs * len(PARTS)), wrong / (runs * len(PARTS))


@pytest.mark.parametrize("level", [0.80, 0.84, 0.86, 0.87, 0.88, 0.89, 0.90, 0.91, 0.92])
def test_parts_around_the_fail_limit_are_named(level):
    right, wrong = _outcomes(level)
    assert right >= 0.95
    assert wrong == 0


def test_parts_just_below_the_warning_limit_are_named_or_left_open():
    right, wrong = _outcomes(0.93)
    assert right >= 0.95
    assert wrong <= 0.02
    _, wrong = _outcomes(0.94)
    assert wrong <= 0.1
