"""The fabric gate alone, outside of a rollout: check, start the Job, follow it, take it away again."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from llm_rollout import kinds, names
from llm_rollout.errors import Permanent, Transient
from llm_rollout.ports import Manifest, Ports
from llm_rollout.rollout import Rollout
from llm_rollout.spec import RolloutSpec
from llm_rollout.steps import fabric_inventory, jobs, measuring
from llm_rollout.steps.jobs import Finished, JobSeen
from llm_rollout.verdict import Act, Fail, Wait

LOOK_EVERY_SECONDS = 1.0


@dataclass(frozen=True)
class Timing:
    """What the outside lends: ``now`` in seconds since the epoch, and how to wait."""

    now: Callable[[], float]
    sleep: Callable[[float], None]


def alone(spec: RolloutSpec, nodes: Sequence[str], invocation: str) -> RolloutSpec:
    """The spec under a name of this invocation, so that its Job is no rollout's and no rollout takes it for its own."""
    return spec.model_copy(update={"name": f"gate-{names.short([invocation, *nodes])}"})


def problems(spec: RolloutSpec, nodes: Sequence[str], ports: Ports) -> list[str]:
    """What would keep the probe from running, each with its remedy. GPUs are not looked at: the probe takes none.

    Raises:
        Permanent: Nodes or pods may not be read, so nothing can be told.
    """
    found = fabric_inventory.attached(spec, ports)
    ground = fabric_inventory.observe(spec, ports, "")
    resource = spec.server.network.rdma_resource
    need = {resource: Decimal(1)} if resource else {}
    told = [f"{one.cause}: {one.remedy}" for one in fabric_inventory.problems(spec, nodes, ground, found, need)]
    busy = fabric_inventory.busy(nodes, ground, "")
    return [*told, *([f"another measurement runs on these nodes: {', '.join(busy)}: wait for it"] if busy else [])]


def measure(spec: RolloutSpec, nodes: Sequence[str], ports: Ports, timing: Timing) -> Generator[Mapping[str, Any]]:
    """Start the Job, yield its progress as it changes and at last its report; what was started is gone afterwards.

    Raises:
        Transient: It could not run, or not in time; the text says why.
    """
    made = measuring.manifests(spec, dict.fromkeys(nodes, ""), "", f"{spec.name}/1")
    try:
        yield from _followed(Rollout(spec, spec.name, f"{spec.name}/1", ""), made, ports, timing)
    finally:
        _take_away(made[-1], ports)


def _followed(
    rollout: Rollout, made: tuple[Manifest, ...], ports: Ports, timing: Timing
) -> Iterator[Mapping[str, Any]]:
    deadline = rollout.spec.fabric.deadline_seconds
    until, said = timing.now() + deadline, Wait("")
    while timing.now() < until:
        outcome = jobs.settle(rollout, _seen(rollout, made, ports), made, timing.now())
        if isinstance(outcome, Finished):
            yield {"event": "report", **outcome.report}
            return
        if isinstance(outcome, Fail):
            raise Transient(f"{outcome.cause}: {outcome.remedy}")
        if isinstance(outcome, Act):
            measuring.act(outcome.plan, ports)
            continue
        if outcome != said:
            said = outcome
            yield {"event": "progress", "waiting": said.reason, **said.progress}
        timing.sleep(LOOK_EVERY_SECONDS)
    raise Transient(f"not done after {deadline} s, and still: {said.reason}")


def _seen(rollout: Rollout, made: tuple[Manifest, ...], ports: Ports) -> JobSeen:
    return jobs.observe(rollout, ports, made[-1]["metadata"]["name"])


def _take_away(job: Manifest, ports: Ports) -> None:
    """What was created: the Service even where the Job never came to be."""
    namespace, name = job["metadata"]["namespace"], job["metadata"]["name"]
    try:
        for kind in (kinds.SERVICE, kinds.JOB):
            found = ports.cluster.get(kind, namespace, name)
            if found is not None:
                ports.cluster.delete(kind, namespace, name, found["metadata"]["uid"])
    except (Permanent, Transient) as error:
        raise Transient(f"{error}; delete Job and Service {namespace}/{name} yourself") from error
