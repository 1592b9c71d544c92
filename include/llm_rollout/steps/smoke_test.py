"""The candidate generates tokens, streams the same ones, and reports metrics: /health alone is no proof.

Beside that a tripwire compares its log probabilities of fixed texts with stable's: ``steps.tripwire``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llm_rollout import record
from llm_rollout.errors import Transient
from llm_rollout.ports import Endpoint, Ports, Reply
from llm_rollout.rollout import Rollout
from llm_rollout.spec import RolloutSpec
from llm_rollout.steps import engine_death, group_state, pod_state, tripwire
from llm_rollout.steps.engine_death import Aftermath
from llm_rollout.steps.tripwire import Comparison, Scores
from llm_rollout.verdict import Done, Fail, Verdict, Wait

PROMPTS = ("2+2=", "7+5=", "9+0=")
"""Sums as the bundled tasks ask them. Right answers are the canary's matter: here a model has to say anything."""
MOST_TOKENS = 8

_OK = 200
_COMING_UP = (502, 503, 504)
"""A leader that has just become ready, or the proxy before it, may answer so for a moment."""
_REMEDY_OF_TRIPWIRE = (
    "compare dtype, quantization and chat template in spec.server with stable's; then verify the files"
)
_REMEDY = "read the leader's log; the group is up but does not serve; roll another revision out"


@dataclass(frozen=True)
class Probe:
    """What one leader answered. ``bad`` says what is wrong, ``pending`` what may be right in a moment."""

    leader: str
    answers: Mapping[str, str] = field(default_factory=dict)
    bad: str = ""
    pending: str = ""
    scores: Scores = tripwire.NOT_ASKED


@dataclass(frozen=True)
class Seen:
    """One probe for each leader, how many leaders there are to be, and what stable says to the fixed texts."""

    probes: tuple[Probe, ...]
    groups: int
    stable: Scores = tripwire.NO_STABLE
    same_commit: bool = False
    """Whether stable serves the same weights."""
    aftermath: Aftermath | None = None
    """The ranks' ends and logs, where a leader does not answer as it should."""


class _BadAnswerError(Exception):
    """What a leader answered is not what a serving model answers."""


def observe(rollout: Rollout, ports: Ports) -> Seen:
    """Ask every leader, one after the other."""
    spec, plan = rollout.spec, rollout.planned
    state = group_state.observe(ports, spec.namespace, spec.name, plan.revision_id, plan.lws)
    leaders = [pod_state.name(pod) for pod in state.leaders if not pod_state.is_going(pod)]
    stable = _stable_scores(rollout, ports)
    probes = tuple(_probe(spec, ports, leader, scored=not stable.missing) for leader in leaders)
    served = record.load(ports.cluster, spec.namespace, spec.name).revision(plan.stable_revision_id)
    same_commit = served is not None and served.commit == plan.commit
    troubled = len(probes) < state.replicas or any(probe.bad or probe.pending for probe in probes)
    aftermath = engine_death.observe(rollout, state, ports) if troubled else None
    return Seen(probes, state.replicas, stable, same_commit, aftermath)


def keep(rollout: Rollout, seen: Seen, ports: Ports) -> Seen:
    """Write logs and ends of a group in trouble to the evidence before its pods are gone."""
    return replace(seen, aftermath=engine_death.keep(rollout, seen.aftermath, ports)) if seen.aftermath else seen


def decide(rollout: Rollout, seen: Seen, now: float) -> Verdict:
    """An engine that died or one bad answer fails the candidate; a leader that does not answer yet is asked again."""
    died = _died(seen.aftermath, now) if seen.aftermath else None
    if died is not None:
        return died
    bad = [probe for probe in seen.probes if probe.bad]
    if bad:
        return Fail(f"leader {bad[0].leader}: {bad[0].bad}", _REMEDY, {probe.leader: probe.bad for probe in bad})
    pending = [probe for probe in seen.probes if probe.pending]
    if pending:
        return Wait(
            f"leader {pending[0].leader} does not answer yet: {pending[0].pending}",
            {probe.leader: probe.pending for probe in pending},
        )
    if not seen.groups or len(seen.probes) < seen.groups:
        return Fail(
            f"{len(seen.probes)} of {seen.groups} leaders of {rollout.planned.lws} exist",
            "clear create_group and what follows it",
        )
    compared = {probe.leader: _compared(seen, probe) for probe in seen.probes}
    tripped = [f"leader {leader}: {found.bad}" for leader, found in compared.items() if found.bad]
    evidence = {probe.leader: {**probe.answers, **compared[probe.leader].as_json()} for probe in seen.probes}
    if tripped:
        return Fail(tripped[0], _REMEDY_OF_TRIPWIRE, evidence)
    skipped = next((f"; log probabilities were not compared: {f.skipped}" for f in compared.values() if f.skipped), "")
    told = f"{seen.groups} of {seen.groups} leaders generate, stream and report metrics"
    return Done(told + skipped, evidence)


def act(plan: object, ports: Ports) -> None:
    """Nothing: asking is observing."""


def _died(aftermath: Aftermath, now: float) -> Fail | Wait | None:
    found = engine_death.diagnose(aftermath, now)
    if not found.settled:
        return Wait("the engine came up and died; its ranks may still say of what")
    if found.cause is None:
        return None
    evidence = {"kept_at": aftermath.group.kept_at} if aftermath.group.kept_at else {}
    cause = f"the engine came up and failed at its first requests: {engine_death.told(found.cause)}"
    return Fail(cause, found.cause.remedy, evidence)


def _probe(spec: RolloutSpec, ports: Ports, leader: str, *, scored: bool) -> Probe:
    endpoint = Endpoint(spec.namespace, "pods", leader, spec.server.port)
    try:
        _lists_its_name(spec, ports, endpoint)
        answers = {prompt: _completion(spec, ports, endpoint, prompt) for prompt in PROMPTS}
        _streams(spec, ports, endpoint, PROMPTS[0], answers[PROMPTS[0]])
        _reports(spec, ports, endpoint)
    except Transient as error:
        return Probe(leader, pending=str(error))
    except _BadAnswerError as error:
        return Probe(leader, bad=str(error))
    scores = tripwire.read(ports, endpoint, spec.served_name) if scored else tripwire.NOT_ASKED
    return Probe(leader, answers, scores=scores)


def _stable_scores(rollout: Rollout, ports: Ports) -> Scores:
    spec, plan = rollout.spec, rollout.planned
    if plan.stable_lws is None:
        return tripwire.NO_STABLE
    port = plan.stable_port or spec.server.port
    return tripwire.read(ports, Endpoint(spec.namespace, "pods", f"{plan.stable_lws}-0", port), spec.served_name)


def _compared(seen: Seen, probe: Probe) -> Comparison:
    return tripwire.compare(probe.scores, seen.stable, same_commit=seen.same_commit)


def _lists_its_name(spec: RolloutSpec, ports: Ports, endpoint: Endpoint) -> None:
    body = _body(ports.server.get(endpoint, "/v1/models"), "/v1/models")
    listed = [entry.get("id") for entry in body.get("data", [])] if isinstance(body, dict) else body
    if spec.served_name not in listed:
        raise _BadAnswerError(f"/v1/models lists {listed}, clients ask for {spec.served_name}")


def _completion(spec: RolloutSpec, ports: Ports, endpoint: Endpoint, prompt: str) -> str:
    body = _body(ports.server.post(endpoint, "/v1/completions", _question(spec, prompt)), "/v1/completions")
    tokens = (body.get("usage") or {}).get("completion_tokens", 0) if isinstance(body, dict) else 0
    if not tokens:
        raise _BadAnswerError(f"no token generated for the prompt {prompt!r}: {str(body)[:200]}")
    return str(body["choices"][0]["text"])


def _streams(spec: RolloutSpec, ports: Ports, endpoint: Endpoint, prompt: str, expected: str) -> None:
    chunks = list(ports.server.stream(endpoint, "/v1/completions", {**_question(spec, prompt), "stream": True}))
    if not chunks or chunks[-1] != "[DONE]":
        raise _BadAnswerError(f"the stream of {len(chunks)} chunks does not end with [DONE]")
    choices = [choice for chunk in chunks[:-1] for choice in json.loads(chunk).get("choices", [])]
    streamed = "".join(choice.get("text", "") for choice in choices)
    if streamed != expected:
        raise _BadAnswerError(f"for {prompt!r} it streams {streamed!r} and answers {expected!r} at temperature 0")


def _reports(spec: RolloutSpec, ports: Ports, endpoint: Endpoint) -> None:
    text = str(_body(ports.server.get(endpoint, "/metrics"), "/metrics"))
    series = [line for line in text.splitlines() if line.startswith("vllm:")]
    if not any(f'model_name="{spec.served_name}"' in line for line in series):
        raise _BadAnswerError(f"/metrics has {len(series)} vllm: series, none of model_name {spec.served_name}")


def _question(spec: RolloutSpec, prompt: str) -> dict[str, Any]:
    return {"model": spec.served_name, "prompt": prompt, "max_tokens": MOST_TOKENS, "temperature": 0, "stop": ["\n"]}


def _body(reply: Reply, path: str) -> Any:
    if reply.status in _COMING_UP:
        raise Transient(f"{path} answered {reply.status}")
    if reply.status != _OK:
        raise _BadAnswerError(f"{path} answered {reply.status}: {str(reply.body)[:200]}")
    return reply.body
