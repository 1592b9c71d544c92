"""Carry the four rollouts out through Airflow's REST API and tell what happens, line by line."""

from __future__ import annotations

import time

from devcluster.airflow import Client
from devcluster.demo import scenarios
from devcluster.demo.report import RolloutReport, StepReport, orchestration_seconds
from devcluster.demo.scenarios import Scenario
from devcluster.demo.stack import DAG, Stack
from llm_rollout.record import RolloutResult

_TOLD = {"success": "done", "failed": "FAILED", "upstream_failed": "not reached", "skipped": "skipped"}


class Driver:
    """Starts rollouts and prints one line for each step that ends."""

    def __init__(self, stack: Stack, client: Client, rollout_seconds: float) -> None:
        """Drive the rollouts of ``stack`` by ``client``, each within ``rollout_seconds``."""
        self._stack = stack
        self._client = client
        self._rollout_seconds = rollout_seconds
        self._began = time.monotonic()

    def carry_out(self, number: int, scenario: Scenario) -> RolloutReport:
        """Run one scenario to its end.

        Raises:
            TimeoutError: It has not ended after the seconds that a rollout may take.
        """
        self._say(f"Rollout {number}: {scenario.name}")
        if scenario.slow_link:
            self._stack.slow_link(scenarios.SLOW_LINK, scenarios.SLOW_GBPS)
        if scenario.extra_args:
            self._stack.change_spec({"extra_args": list(scenario.extra_args)})
        run_id = self._client.trigger(DAG, {"revision": scenario.revision}, run_id=f"demo-{number}")
        self._client.wait_run(DAG, run_id, self._rollout_seconds, lambda step, state: self._tell(run_id, step, state))
        result = self._stack.record().run(run_id)
        if result is None:
            return RolloutReport(scenario.name, scenario.expected, "unrecorded", "", 0, 0, (), ("not in the record",))
        self._say(f"  {scenarios.ended(result)}: {result.reason}")
        return _report(scenario, result)

    def _tell(self, run_id: str, step: str, state: str) -> None:
        if state not in _TOLD:
            return
        result = self._stack.record().run(run_id)
        entry = result.step(step) if result else None
        summary = f": {entry.summary}" if entry and state in ("success", "failed") else ""
        self._say(f"  {step:16} {_TOLD[state]}{summary}")

    def _say(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s  {text}", flush=True)


def _report(scenario: Scenario, result: RolloutResult) -> RolloutReport:
    seconds = (result.ended or time.time()) - result.started
    waited = {step.step: step.waited_seconds for step in result.steps}
    return RolloutReport(
        name=scenario.name,
        expected=scenario.expected,
        ended=scenarios.ended(result),
        reason=result.reason,
        seconds=round(seconds, 1),
        orchestration_seconds=round(orchestration_seconds(seconds, waited), 1),
        steps=tuple(
            StepReport(step.step, step.verdict, step.started, round((step.ended or step.started) - step.started, 1))
            for step in result.steps
        ),
        problems=scenarios.problems_of(scenario, result),
    )
