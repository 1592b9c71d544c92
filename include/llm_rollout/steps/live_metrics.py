"""The few vLLM series that say whether live traffic is well."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from llm_rollout.canary import live_readings
from llm_rollout.canary.live_readings import Reading
from llm_rollout.errors import Transient
from llm_rollout.ports import Endpoint, Ports
from llm_rollout.rollout import Rollout
from llm_rollout.spec import RolloutSpec
from llm_rollout.steps import group_state, pod_state
from llm_rollout.steps.group_state import GroupState

_SERIES = re.compile(r"^(?P<name>vllm:\w+)\{(?P<labels>.*)\}\s+(?P<value>\S+)")
_REASON = re.compile(r'finished_reason="(\w+)"')
_OK = 200


@dataclass(frozen=True)
class Load:
    """Sums over leaders since their start: requests by how they ended, and how many wait now."""

    finished: int = 0
    errors: int = 0
    aborted: int = 0
    waiting: int = 0

    def since(self, before: Load) -> Load:
        """What happened since an earlier reading; a counter that went back started again at zero."""
        if self.finished < before.finished:
            return self
        return Load(
            self.finished - before.finished, self.errors - before.errors, self.aborted - before.aborted, self.waiting
        )

    def as_json(self) -> dict[str, int]:
        """For the record."""
        return asdict(self)


def read(spec: RolloutSpec, ports: Ports, leaders: Iterable[str]) -> Load:
    """The sum over leaders.

    Raises:
        Transient: A leader did not answer: no number is known then, not even a part of the sum.
    """
    return parse("\n".join(_text(ports, spec.namespace, spec.server.port, leader) for leader in leaders))


def read_each(ports: Ports, namespace: str, port: int, leaders: Iterable[str]) -> dict[str, Reading]:
    """Each leader's counters and histograms, which a judge compares over time.

    Raises:
        Transient: A leader did not answer.
    """
    return {leader: live_readings.parse(_text(ports, namespace, port, leader)) for leader in leaders}


def of_group(spec: RolloutSpec, ports: Ports, state: GroupState, port: int | None = None) -> dict[str, Reading] | None:
    """As ``read_each``, of all leaders of a group; None when one of them did not answer."""
    try:
        leaders = [pod_state.name(pod) for pod in state.leaders]
        return read_each(ports, spec.namespace, port or spec.server.port, leaders)
    except Transient:
        return None


def of_stable(rollout: Rollout, ports: Ports) -> dict[str, Reading] | None:
    """As ``of_group``, of the revision that served when the plan was made; None where there was none."""
    spec, plan = rollout.spec, rollout.planned
    if plan.stable_lws is None or plan.stable_revision_id is None:
        return None
    state = group_state.observe(ports, spec.namespace, spec.name, plan.stable_revision_id, plan.stable_lws)
    return of_group(spec, ports, state, plan.stable_port)


def parse(text: str) -> Load:
    """Sum the series in the text of one or more ``/metrics``. An error has its own finished_reason, as has an abort."""
    ended: dict[str, float] = {}
    waiting = 0.0
    for match in filter(None, map(_SERIES.match, text.splitlines())):
        if match["name"] == "vllm:num_requests_waiting":
            waiting += float(match["value"])
        reason = _REASON.search(match["labels"])
        if match["name"] == "vllm:request_success_total" and reason:
            ended[reason[1]] = ended.get(reason[1], 0.0) + float(match["value"])
    return Load(int(sum(ended.values())), int(ended.get("error", 0)), int(ended.get("abort", 0)), int(waiting))


def _text(ports: Ports, namespace: str, port: int, leader: str) -> str:
    reply = ports.server.get(Endpoint(namespace, "pods", leader, port), "/metrics")
    if reply.status != _OK:
        raise Transient(f"/metrics of {leader} answered {reply.status}")
    return str(reply.body)
