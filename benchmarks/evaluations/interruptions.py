"""Comparisons that are killed on the way and go on, beside one that nobody disturbs; servers answer all the same."""

from __future__ import annotations

import json
import multiprocessing
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.evaluations import processes
from benchmarks.evaluations.arena import LOOK_SECONDS, Arena, Judged, Model, Serving, evaluate
from benchmarks.evaluations.playing import Say, describe
from llm_rollout import adapters, kinds, names
from llm_rollout.adapters.evidence import DirectoryEvidence
from llm_rollout.manifests.canary_job import resumed_from
from llm_rollout.manifests.job import CONTAINER
from llm_rollout.ports import Endpoint, Ports
from llm_rollout.rollout import Rollout, RolloutPlan

COUNTED = ("errors", "quality")
"""What does not hang on the times of a busy machine: the same answers give the same pots."""
_JOB_LABEL = "batch.kubernetes.io/controller-uid"
_LINES = 2000
_FINISHED = re.compile(r"^vllm:request_success_total\{[^}]*\} (\S+)$", re.MULTILINE)
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Way:
    """How a comparison is disturbed."""

    job_at: tuple[int, ...] = ()
    """Pairs after which the Job's process is killed."""
    task_at: int | None = None
    """Pairs after which whoever follows the comparison is killed; another process goes on."""


@dataclass
class Life:
    """One Job of a comparison."""

    resumed: bool
    rounds: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    """Its lines of progress."""


@dataclass
class Told:
    """A comparison and what its Jobs said."""

    judged: Judged
    lives: list[Life]
    requests: int
    """That the candidate has answered for it."""

    @property
    def rounds(self) -> dict[int, Mapping[str, Any]]:
        """All lines of progress."""
        return {number: line for life in self.lives for number, line in life.rounds.items()}

    @property
    def twice(self) -> int:
        """Rounds that two Jobs counted."""
        return sum(len(life.rounds) for life in self.lives) - len(self.rounds)

    def is_as(self, other: Told) -> bool:
        """Whether both ended the same, with the same pots after every round."""
        mine, theirs = ((one.judged.end, one.judged.metric, one.judged.pairs) for one in (self, other))
        return mine == theirs and _pots(self) == _pots(other)


class Follower:
    """Reads what the Jobs of a comparison print, as long as they are there."""

    def __init__(self, model: Model, plan: RolloutPlan, run_id: str) -> None:
        self._ports, self._namespace = model.ports, model.name
        self._job = names.evaluate_job_name(model.name, plan.revision_id, run_id)
        self._lives: dict[str, Life] = {}

    def look(self) -> int:
        """Read what there is now; the pairs so far."""
        job = self._ports.cluster.get(kinds.JOB, self._namespace, self._job)
        if job is not None:
            uid = job["metadata"]["uid"]
            life = self._lives.setdefault(uid, Life(bool(resumed_from(job))))
            for pod in self._ports.cluster.list(kinds.POD, self._namespace, {_JOB_LABEL: uid}):
                text = self._ports.logs.tail(self._namespace, pod["metadata"]["name"], CONTAINER, _LINES)
                life.rounds.update(_progress(text))
        return max((line["pairs"] for life in self._lives.values() for line in life.rounds.values()), default=0)

    @property
    def lives(self) -> list[Life]:
        """The Jobs in their order."""
        return list(self._lives.values())


def compare(model: Model, rollout: Rollout, way: Way) -> Told:
    """A comparison that is disturbed on its way, and what all of its Jobs said."""
    plan = model.plan(rollout)
    follower, before = Follower(model, plan, rollout.run_id), answered(model.ports, plan)
    disturb = _Disturbing(model, plan, follower, list(way.job_at))
    began = time.monotonic()
    if way.task_at is not None:
        _followed_elsewhere(model, rollout, way.task_at, disturb)
    judged = model.evaluate(rollout, lambda _: disturb())
    follower.look()
    seconds = time.monotonic() - began
    return Told(replace(judged, seconds=seconds), follower.lives, answered(model.ports, plan) - before)


class _Disturbing:
    """Kills the Job's process when it is far enough, once for each of the given numbers of pairs."""

    def __init__(self, model: Model, plan: RolloutPlan, follower: Follower, kill_at: list[int]) -> None:
        self._model, self._plan, self._follower, self._left = model, plan, follower, kill_at

    def __call__(self) -> int:
        """Look, strike if it is time, and say how many pairs there were."""
        pairs = self._follower.look()
        if self._left and pairs >= self._left[0]:
            self._left.pop(0)
            found = processes.evaluations(self._model.layout, self._plan.lws)
            processes.kill(found)
            processes.await_end(found)
            self._follower.look()
        return pairs


def _followed_elsewhere(model: Model, rollout: Rollout, pairs: int, disturb: Callable[[], int]) -> None:
    """Let another process follow the comparison up to so many pairs, and end it without a word."""
    task = _SPAWN.Process(target=follow, args=(str(model.layout.kubeconfig), model.evidence, rollout), daemon=True)
    task.start()
    while task.is_alive() and disturb() < pairs:
        time.sleep(LOOK_SECONDS)
    task.kill()
    task.join()


def follow(kubeconfig: str, evidence: Path, rollout: Rollout) -> None:
    """What a task does, in a process that knows nothing but its rollout."""
    evaluate(rollout, adapters.connect(kubeconfig, evidence=DirectoryEvidence(evidence)), lambda _: None)


def answered(ports: Ports, plan: RolloutPlan) -> int:
    """Requests that the candidate's leader has finished since it started."""
    endpoint = Endpoint(plan.spec.namespace, "pods", f"{plan.lws}-0", plan.spec.server.port)
    return sum(int(float(value)) for value in _FINISHED.findall(str(ports.server.get(endpoint, "/metrics").body)))


@dataclass(frozen=True)
class Kind:
    """A candidate whose comparison is disturbed."""

    candidate: Serving
    canary: Mapping[str, Any]
    ways: Mapping[str, Way]


UNDISTURBED = "nobody disturbs it"
KINDS: Mapping[str, Kind] = {
    "as good": Kind(
        Serving(),
        {"required": COUNTED},
        {
            UNDISTURBED: Way(),
            "its Job is killed": Way((300,)),
            "its Job is killed three times": Way((100, 300, 500)),
            "its task is killed": Way(task_at=300),
            "its task is killed, then its Job": Way((300,), task_at=200),
        },
    ),
    "accuracy 10 points less": Kind(
        Serving(weights="worse"),
        {"required": COUNTED, "round_pairs": 10},
        {UNDISTURBED: Way(), "its Job is killed": Way((40,))},
    ),
}


@dataclass(frozen=True)
class Disturbed:
    """A comparison beside the one that nobody disturbed."""

    judged: Judged
    jobs: int
    twice: int
    """Rounds that two Jobs counted."""
    requests: int
    """That the candidate has answered for it."""
    same: bool
    """Its end, and its pots after every round."""


def play(arena: Arena, number: int, kind: Kind, say: Say) -> dict[str, Disturbed]:
    """Every way once, on the same stable and the same candidate, so that both say the same."""
    found: dict[str, Told] = {}
    with arena.model(f"in{number:02d}", Serving()) as model:
        rollout = model.candidate(kind.candidate, kind.canary)
        for way, disturbing in kind.ways.items():
            rollout = model.again(rollout) if found else rollout
            found[way] = compare(model, rollout, disturbing)
            model.conclude(rollout)
            say(f"{way}: {len(found[way].lives)} Jobs, {describe(found[way].judged)}")
    return {way: _beside(told, found[UNDISTURBED]) for way, told in found.items()}


def _pots(told: Told) -> dict[int, Any]:
    return {
        number: (line["pairs"], [line["pots"][metric] for metric in COUNTED]) for number, line in told.rounds.items()
    }


def _progress(log: str) -> dict[int, Mapping[str, Any]]:
    found = {}
    for text in log.splitlines():
        if text.startswith('{"event": "progress"') and text.endswith("}"):
            line = json.loads(text)
            found[line["round"]] = line
    return found


def _beside(told: Told, other: Told) -> Disturbed:
    return Disturbed(told.judged, len(told.lives), told.twice, told.requests, told.is_as(other))
