"""Where comparisons are played: a model that serves on a devcluster, and candidates of it, by the real steps."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.coldstart.failures import Failure
from benchmarks.coldstart.site import CLAIM, Site, drive, spec_of, temporary_home
from devcluster import lifecycle
from devcluster.layout import Layout
from llm_rollout import record, runner
from llm_rollout.errors import Transient
from llm_rollout.ports import Ports
from llm_rollout.rollout import Rollout, RolloutPlan
from llm_rollout.spec import Canary, RolloutSpec
from llm_rollout.testing.simulation import FakeHub
from llm_rollout.verdict import Done, Fail, Wait

EVALUATE = "evaluate_canary"
LOOK_SECONDS = 0.5
NODES, GPUS = 4, 8
_OVERTIME_SECONDS = 60.0
_SMOKE_TRIES = 6
Watch = Callable[[Mapping[str, Any]], object]


class NotPlayedError(Exception):
    """A step before the comparison ended otherwise than it should: nothing was measured."""


@dataclass(frozen=True)
class Serving:
    """How one side serves."""

    env: Mapping[str, str] = field(default_factory=dict)
    """The stand-in's faults."""
    weights: str = "v1"
    extra_args: tuple[str, ...] = ()


@dataclass(frozen=True)
class Judged:
    """How a comparison ended."""

    end: str
    """``promote``, ``rollback``, ``undecided``, or ``unmeasured`` where nothing was compared."""
    metric: str
    pairs: int
    seconds: float
    """Of the step ``evaluate_canary``, the start of its Job included."""
    told: str
    failed: Mapping[str, int] = field(default_factory=dict)
    """Requests that failed, by side."""
    load: float = 0.0
    """Of the machine over the last minute."""


class Arena(Site):
    """A devcluster, and the weights that its models may serve."""

    def __init__(self, home: Path, weights: Mapping[str, Path], evidence: Path) -> None:
        super().__init__(home, weights["v1"], evidence)
        self.layout = Layout(home)
        self.weights = weights
        self.evidence = evidence

    @contextlib.contextmanager
    def model(self, name: str, stable: Serving) -> Iterator[Model]:
        """A model of that name in a namespace of that name, with ``stable`` behind its Service."""
        with self._place(name, Failure((), "")) as ports:
            found = Model(self, name, ports)
            found.deploy(stable)
            yield found


class Model:
    """One model: what serves it, and what may follow."""

    def __init__(self, arena: Arena, name: str, ports: Ports) -> None:
        self._arena = arena
        self._hub = FakeHub({})
        self._runs = 0
        self.name = name
        self.layout = arena.layout
        self.evidence = arena.evidence / name
        self.ports = replace(ports, hub=self._hub)

    def deploy(self, serving: Serving) -> None:
        """Bring the first revision behind the Service."""
        rollout = self._begin(serving, Canary())
        self.carry_out(rollout, "plan_rollout", "create_group", "await_cold_start", "switch_service")
        self.conclude(rollout)

    def candidate(self, serving: Serving, canary: Mapping[str, Any]) -> Rollout:
        """Begin a rollout and bring it to where its candidate serves and has passed its smoke test."""
        return self.prepare(self._begin(serving, Canary.model_validate(canary)))

    def again(self, rollout: Rollout, **canary: Any) -> Rollout:
        """Another rollout to the same revision, compared otherwise: the candidate that is there is adopted."""
        self._runs += 1
        run_id, compared = f"run-{self._runs}", rollout.spec.canary.model_copy(update=canary)
        spec = rollout.spec.model_copy(update={"canary": compared})
        return self.prepare(replace(rollout, spec=spec, run_id=run_id, attempt=f"{run_id}/1"))

    def prepare(self, rollout: Rollout) -> Rollout:
        """Carry the steps before the comparison out. A smoke test that met an error is cleared, as a person would."""
        self.carry_out(rollout, "plan_rollout", "create_group", "await_cold_start")
        for attempt in range(1, _SMOKE_TRIES + 1):
            ended = drive("smoke_test", replace(rollout, attempt=f"{rollout.run_id}/{attempt}"), self.ports)
            if isinstance(ended, Done):
                return rollout
        raise NotPlayedError(f"{self.name}: smoke_test: {ended}")

    def carry_out(self, rollout: Rollout, *steps: str) -> None:
        """Drive steps to their end, which has to be a good one."""
        for step in steps:
            ended = drive(step, rollout, self.ports)
            if not isinstance(ended, Done):
                raise NotPlayedError(f"{self.name}: {step}: {ended}")

    def evaluate(self, rollout: Rollout, watch: Watch = lambda _: None) -> Judged:
        """The comparison; ``watch`` sees the progress of each look."""
        began = time.monotonic()
        verdict = evaluate(rollout, self.ports, watch)
        return _judged(verdict, time.monotonic() - began)

    def remove(self, rollout: Rollout) -> None:
        """Take the candidate away, as after a failure, and end the run."""
        self.carry_out(rollout, "roll_back")
        self.conclude(rollout)

    def conclude(self, rollout: Rollout) -> None:
        """End the run. It is red, because steps were left out; what counts is that its lease is free."""
        drive("conclude", rollout, self.ports)

    def plan(self, rollout: Rollout) -> RolloutPlan:
        """What a run planned."""
        found = record.load(self.ports.cluster, self.name, self.name).run(rollout.run_id)
        if found is None or found.plan is None:
            raise NotPlayedError(f"{self.name}: {rollout.run_id} has no plan")
        return found.plan

    def serving_commit(self) -> str:
        """The commit behind the Service."""
        current = record.load(self.ports.cluster, self.name, self.name).current
        if current is None:
            raise NotPlayedError(f"{self.name}: nothing serves")
        return current.commit

    def break_for_good(self, lws: str) -> None:
        """Whatever of a LeaderWorkerSet starts from now on dies at once."""
        self._arena.command("fault", "add", "crash", f"{lws}-0*")

    def _begin(self, serving: Serving, canary: Canary) -> Rollout:
        """A commit of its own for each rollout, so that each is a revision of its own."""
        self._runs += 1
        run_id, commit = f"run-{self._runs}", f"{self._runs:040x}"
        self._hub.commits[run_id] = commit
        target = self.layout.volume(self.name, CLAIM) / "models" / f"org--{self.name}" / commit
        if not target.exists():
            shutil.copytree(self._arena.weights[serving.weights], target, copy_function=os.link)
        return Rollout(_spec(self.name, serving, canary), run_id, f"{run_id}/1", run_id)


def evaluate(rollout: Rollout, ports: Ports, watch: Watch, look_seconds: float = LOOK_SECONDS) -> Done | Fail:
    """Look as a trigger does, and go on as a task does, until the comparison has ended."""
    end = time.monotonic() + rollout.spec.canary.deadline_seconds + _OVERTIME_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(Transient):
            verdict = runner.look(EVALUATE, rollout, ports, time.time)
            if not isinstance(verdict, Wait):
                verdict = runner.advance(EVALUATE, rollout, ports, time.time)
            if not isinstance(verdict, Wait):
                return verdict
            watch(verdict.progress)
        time.sleep(look_seconds)
    return runner.past_deadline(EVALUATE, rollout, ports, time.time, rollout.spec.canary.deadline_seconds)


@contextlib.contextmanager
def devcluster(say: Callable[[str], None] = lambda _: None) -> Iterator[Layout]:
    """A devcluster for the length of the block."""
    layout = Layout(temporary_home())
    lifecycle.up(layout, NODES, GPUS, say=say, tied=True)
    try:
        yield layout
    finally:
        lifecycle.down(layout)
        shutil.rmtree(layout.home, ignore_errors=True)


def _spec(name: str, serving: Serving, canary: Canary) -> RolloutSpec:
    row = Failure((), "", env=serving.env, extra_args=serving.extra_args)
    return spec_of(name, row).model_copy(update={"canary": canary})


def _judged(verdict: Done | Fail, seconds: float) -> Judged:
    report, load = verdict.evidence, os.getloadavg()[0]
    told = verdict.summary if isinstance(verdict, Done) else verdict.cause
    if "decision" not in report:
        return Judged("unmeasured", "", 0, seconds, told, load=load)
    failed = {side: report[side]["errors"] for side in ("stable", "candidate")}
    return Judged(report["decision"], report["metric"] or "", report["pairs"], seconds, told, failed, load)
