"""200 slow and healthy starts through the real decision: none may be called stalled; those that stop must be."""

from __future__ import annotations

import random
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from llm_rollout.coldstart import patience
from llm_rollout.coldstart.lives import Life
from llm_rollout.manifests.leader_worker_set import leader_worker_set
from llm_rollout.rollout import Rollout, RolloutPlan
from llm_rollout.spec import RolloutSpec
from llm_rollout.steps import await_cold_start
from llm_rollout.steps.group_state import GroupState
from llm_rollout.verdict import Act, Wait

sys.path.insert(0, str(Path(__file__).parent))
from starts import BANNER, BORN, CACHE, COMPILES, JOINS, LOADS, UP, at, event, pod, running, shards, waiting

STARTS = 200
RANKS = 2
CLOCKS = 45.0
"""Seconds by which a node's clock differs; Airflow's by up to a third of it."""
SPEC = RolloutSpec.model_validate({
    "name": "chat", "model": {"repo": "org/chat"}, "service": {"name": "chat-api"},
    "server": {"nodes_per_group": RANKS, "tensor_parallel": 8, "pipeline_parallel": RANKS},
    "timing": {"cold_start_seconds": 86400},
})  # fmt: skip
PLAN = RolloutPlan(
    spec=SPEC, commit="1" * 40, revision_id="aaaaaaaa", lws="chat-aaaaaaaa", nodes=("node-1", "node-2"),
    weights_bytes=140 * 10**9, stable_lws=None, stable_revision_id=None, fencing_token=1,
)  # fmt: skip
ROLLOUT = Rollout(SPEC, "run", "run/1", "v1", plan=PLAN)


class SlowStart:
    """One start: when each rank is placed, pulls, runs and prints. Times are true seconds after ``BORN``."""

    def __init__(self, seed):
        draw = random.Random(seed)  # noqa: S311 (a simulation)
        self.skews = [draw.uniform(-CLOCKS, CLOCKS) for _ in range(RANKS)]
        self.airflow = draw.uniform(-CLOCKS / 3, CLOCKS / 3)
        self.placed = [draw.uniform(0.1, 30) for _ in range(RANKS)]
        self.pulls = [placed + draw.uniform(0.5, 60) for placed in self.placed]
        self.runs = [pull + _long(draw, 2, 1000) for pull in self.pulls]
        banners = [run + _long(draw, 2, 250) for run in self.runs]
        joined = [max(banners) + _long(draw, 0.5, 200)] * RANKS
        self.lines = [[(banner, BANNER), (banner + 1, JOINS)] for banner in banners]
        for rank in range(RANKS):
            self.lines[rank] += self._load(draw, max(joined[0], banners[rank] + 1) + 1)
        loaded = max(lines[-1][0] for lines in self.lines)
        self.finish(draw, loaded)

    @staticmethod
    def _load(draw, begin):
        """Shards at a rate between 20 MB/s and 2 GB/s, in bursts, with pauses of up to ten minutes."""
        count = draw.choice([5, 15, 30])
        mean = 140e9 / count / _long(draw, 20e6 * 30 / count, 2e9)
        lines, moment = [(begin, LOADS)], begin
        for done in range(1, count + 1):
            burst = draw.choice([0.1, 0.5, 1, 1, 2])
            pause = draw.uniform(60, 600) if draw.random() < 0.03 else 0
            moment += min(700, mean * burst) + pause
            lines.append((moment, shards(done, count)))
        return lines

    def finish(self, draw, loaded):
        compiled = loaded + _long(draw, 1, 250)
        cached = compiled + _long(draw, 1, 500)
        for lines in self.lines:
            lines += [(compiled, COMPILES), (cached, CACHE)]
        self.lines[0].append((cached + _long(draw, 1, 250), UP))

    def moments(self):
        """When anything happens, in order: before each of them the silence is at its longest."""
        printed = [moment for lines in self.lines for moment, _ in lines]
        return sorted([*self.placed, *self.pulls, *self.runs, *printed])

    def seen(self, moment, frozen=None):
        """The cluster at a moment, by the clocks of the nodes; nothing happens after ``frozen``."""
        until = moment if frozen is None else min(moment, frozen)
        found = [self._rank(rank, until) for rank in range(RANKS)]
        events = [
            event(rank, reason, first=when + self.skews[rank])
            for rank in range(RANKS)
            for reason, when in (("Pulling", self.pulls[rank]), ("Pulled", self.runs[rank]))
            if when <= until
        ]
        return GroupState(LWS, tuple(life.pod for life in found), tuple(events), None, tuple(found))

    def _rank(self, rank, until):
        skew, runs = self.skews[rank], self.runs[rank] <= until
        state = running(self.runs[rank] + skew) if runs else waiting("ContainerCreating")
        placed = self.placed[rank] if self.placed[rank] <= until else None
        found = pod(rank, state, placed=placed, acknowledged=None if placed is None else placed + 0.2 + skew)
        if placed is None:
            found["status"]["conditions"] = []
        text = "".join(f"{at(moment + skew)} {line}\n" for moment, line in self.lines[rank] if moment <= until)
        return Life(found, 0, text if runs else "")


def _long(draw, least, most):
    """Over all magnitudes alike."""
    return least * (most / least) ** draw.random()


def _lws():
    manifest = leader_worker_set(SPEC, PLAN)
    metadata = {"uid": "u", "generation": 1, "resourceVersion": "5", "creationTimestamp": at(0)}
    status = {"observedGeneration": 1, "replicas": 1, "readyReplicas": 0, "updatedReplicas": 1, "conditions": []}
    return {**manifest, "metadata": {**manifest["metadata"], **metadata}, "status": status}


LWS = _lws()


def false_alarm(start):
    """The first verdict that ends a healthy start, if any: asked just before each thing that happens."""
    for moment in start.moments():
        verdict = await_cold_start.decide(ROLLOUT, start.seen(moment - 0.01), BORN + moment - 0.01 + start.airflow)
        if not isinstance(verdict, Wait):
            return verdict
    return None


def test_200_slow_but_healthy_starts_are_all_let_alone():
    alarms = {seed: verdict.summary for seed in range(STARTS) if (verdict := false_alarm(SlowStart(seed)))}

    assert alarms == {}


def test_the_check_can_fail(monkeypatch):
    monkeypatch.setattr(patience, "DEFAULT_SECONDS", dict.fromkeys(patience.DEFAULT_SECONDS, 120.0))
    monkeypatch.setattr(patience, "GAPS", 0.0)

    assert any(false_alarm(SlowStart(seed)) for seed in range(20))


@pytest.mark.parametrize("seed", range(60))
def test_a_start_that_stops_anywhere_is_found_within_its_patience(seed):
    start = SlowStart(seed)
    draw = random.Random(seed)  # noqa: S311 (a simulation)
    frozen = draw.choice(start.moments()[:-1])
    gap = max((after - before for lines in start.lines for (before, _), (after, _) in pairwise(lines)), default=0)
    # Until a bar has shown, 140 GB at 100 MB/s are believed; clocks add a minute, and each may differ by CLOCKS.
    slowest = max(*patience.DEFAULT_SECONDS.values(), 1400, patience.GAPS * gap)
    latest = frozen + patience.tolerated(slowest) + 2 * CLOCKS

    verdict = await_cold_start.decide(ROLLOUT, start.seen(latest, frozen), BORN + latest + start.airflow)

    assert isinstance(verdict, Act)
    assert "STALLED" in verdict.summary
