"""One run after another: a fabric is drawn, measured, judged by us and by the rules of peers, and scored."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

from benchmarks.fabric import peers
from benchmarks.fabric.peers import Said
from benchmarks.fabric.simulation import Bench, Fabric, draw, tellable
from llm_rollout.fabric.judgement import Judgement, judge
from llm_rollout.fabric.matrix import Matrix

OURS = "llm-rollout"


@dataclass
class Tally:
    """Of one class: runs by outcome, for the parts that we name and for the nodes that everybody names."""

    runs: int = 0
    parts: Counter[str] = field(default_factory=Counter)
    nodes: dict[str, Counter[str]] = field(default_factory=dict)
    verdicts: Counter[str] = field(default_factory=Counter)
    named: int = 0
    blamed_wrongly: int = 0

    def add(self, other: Tally) -> None:
        """The runs of another."""
        self.runs, self.named = self.runs + other.runs, self.named + other.named
        self.blamed_wrongly += other.blamed_wrongly
        self.parts += other.parts
        self.verdicts += other.verdicts
        for rule, outcomes in other.nodes.items():
            self.nodes[rule] = self.nodes.get(rule, Counter()) + outcomes


def study(task: tuple[str, int, int]) -> tuple[str, int, Tally]:
    """``runs`` fabrics of a class with so many nodes; the same task gives the same runs."""
    name, nodes, runs = task
    tally = Tally()
    for run in range(runs):
        chance = random.Random(f"{name} {nodes} {run}")
        fabric = draw(name, nodes, chance)
        _run(fabric, chance, tally)
    return name, nodes, tally


def _run(fabric: Fabric, chance: random.Random, tally: Tally) -> None:
    matrix = Bench(fabric, chance).matrix()
    judgement = judge(matrix)
    truth, named = tellable(fabric), {fault.part.name for fault in judgement.faults}
    tally.runs += 1
    tally.verdicts[judgement.verdict] += 1
    tally.named += len(named)
    tally.blamed_wrongly += len(named - truth)
    tally.parts["wrong" if named - truth else "right" if _is_right(fabric, judgement) else "told nothing"] += 1
    bad = _bad_pairs(matrix)
    said = {OURS: _of_nodes(judgement)} | {
        rule: decide(fabric.nodes, bad, chance) for rule, decide in peers.RULES.items()
    }
    for rule, what in said.items():
        tally.nodes.setdefault(rule, Counter())[_score(fabric, what)] += 1


def _is_right(fabric: Fabric, judgement: Judgement) -> bool:
    """All parts named; and of nothing bad, no alarm."""
    named = {fault.part.name for fault in judgement.faults}
    return named == tellable(fabric) and (bool(named) or judgement.verdict == "PASS")


def _of_nodes(judgement: Judgement) -> Said:
    """What we say, in the words of the others."""
    nodes = {fault.part.node for fault in judgement.faults if fault.part.kind in {"node", "nic"}}
    return Said(frozenset(node for node in nodes if node is not None), judgement.verdict != "PASS")


def _score(fabric: Fabric, said: Said) -> str:
    """A node that has no fault of its own is blamed wrongly; a fault that is no node's calls for an alarm only."""
    guilty = {part.node for part, _ in fabric.faults if part.kind in {"node", "nic"}}
    expected = {place[1] for place in tellable(fabric) if place[0] in {"node", "nic"}}
    if said.nodes - guilty or (said.alarm and not fabric.faults):
        return "wrong"
    return "right" if said.nodes >= expected and said.alarm == bool(fabric.faults) else "told nothing"


def _bad_pairs(matrix: Matrix) -> frozenset[peers.Pair]:
    grid, limit = matrix.grid, matrix.thresholds.warn_fraction * matrix.port_rate_gbps
    bad = [
        grid.ends(number)[:2]
        for number, cell in matrix.placed.items()
        if cell.counted is not None and (cell.counted.gbps or 0.0) < limit
    ]
    return frozenset(frozenset(ends) for ends in bad)
