"""The study measures what it says: its rules, its faults, its scores."""

import random

import pytest

from benchmarks.fabric import peers
from benchmarks.fabric.simulation import CLASSES, WITHOUT_FAULT, Bench, Fabric, draw, tellable
from benchmarks.fabric.study import OURS, study
from llm_rollout.fabric.parts import Part


def _seeded(seed):
    return random.Random(seed)  # noqa: S311 - drawn, no secret


CHANCE = _seeded(1)


def _pairs(*pairs):
    return {frozenset(pair) for pair in pairs}


ALL_OF_4 = [(one, other) for one in range(4) for other in range(one)]
WITH_0 = [(0, other) for other in range(1, 4)]


@pytest.mark.parametrize(
    ("rule", "bad", "nodes"),
    [
        (peers.plain_threshold, [(0, 1)], {0, 1}),
        (peers.two_partners, WITH_0, {0}),
        (peers.two_partners, [(0, 1)], set()),
        (peers.two_partners, ALL_OF_4, {0, 1, 2, 3}),
        (peers.two_passes, WITH_0, {0}),
        (peers.two_passes, ALL_OF_4, set()),
        (peers.two_passes, [], set()),
    ],
)
def test_rules_of_peers(rule, bad, nodes):
    said = rule(4, _pairs(*bad), CHANCE)
    assert (said.nodes, said.alarm) == (nodes, bool(bad))


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("nodes", [2, 3, 6])
def test_every_class_is_scored_and_repeats_itself(name, nodes):
    _, _, tally = study((name, nodes, 10))
    assert sum(tally.parts.values()) == sum(tally.verdicts.values()) == 10
    assert {sum(scores.values()) for scores in tally.nodes.values()} == {10}
    assert set(tally.nodes) == {OURS, *peers.RULES}
    assert tally.parts["right"] >= 9
    assert study((name, nodes, 10))[2] == tally


def test_faulty_cells_are_slow_and_others_are_not():
    fabric = Fabric(4, ((Part("nic", 1, None, 2, "sends"), 0.5),), flake=0.0)
    slow = [(cell.client, cell.rail) for cell in Bench(fabric, _seeded(3)).matrix().cells if max(cell.numbers) < 250]
    assert slow == [("node-1", 2)] * 3


def test_flakes_are_as_many_as_said():
    bench = Bench(Fabric(16, ()), _seeded(5))
    failed = sum(bench.fraction(number) == 0.0 for number in bench.capacities for _ in range(10))
    assert failed / (10 * len(bench.capacities)) == pytest.approx(0.01, rel=0.25)


def test_drawn_faults_do_not_hide_each_other():
    for seed in range(200):
        chance = _seeded(seed)
        for name in CLASSES:
            fabric = draw(name, 5, chance)
            assert bool(fabric.faults) == (name not in WITHOUT_FAULT)
            assert len(tellable(fabric)) == len(fabric.faults)


def test_what_cannot_be_told_apart_counts_as_what_can():
    two_nodes = Fabric(3, ((Part("node", 0), 0.5), (Part("node", 1), 0.5)))
    assert tellable(two_nodes) == {Part("global").name}
    assert tellable(Fabric(2, ((Part("nic", 1, None, 3), 0.5),))) == {Part("link", 0, 1, 3).name}
    assert tellable(Fabric(2, ((Part("nic", 1, None, 3, "sends"), 0.5),))) == {Part("direction", 1, 0, 3).name}
