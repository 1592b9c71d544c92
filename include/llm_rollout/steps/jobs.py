"""What the three steps with a Job have in common: start or adopt it, follow its output, tell how it ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llm_rollout import job_output, kinds, names
from llm_rollout.errors import Conflict, Transient
from llm_rollout.job_output import JobOutput
from llm_rollout.manifests.job import CONTAINER
from llm_rollout.ports import Manifest, Ports
from llm_rollout.rollout import Rollout
from llm_rollout.steps import pod_state
from llm_rollout.verdict import Act, Done, Fail, Verdict, Wait

JOB_NAME_LABEL = "batch.kubernetes.io/job-name"
INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
_TAIL_LINES = 200
"""The report is the last line; progress and a traceback fit before it."""
_LAST_LINES = 15
_MOST_ACTS = 8


@dataclass(frozen=True)
class JobSeen:
    """A Job with the pod that speaks for it and what that pod printed."""

    job: Manifest | None
    pods: tuple[Manifest, ...] = ()
    output: JobOutput = field(default_factory=JobOutput)
    speaker: str = ""
    """The pod whose output this is."""


@dataclass(frozen=True)
class Finished:
    """The Job succeeded. ``report`` is empty when its output is gone; ``this_try`` tells whose result it is."""

    report: Mapping[str, Any]
    job: Manifest
    this_try: bool
    this_run: bool


@dataclass(frozen=True)
class Create:
    """Objects to create; the Job is the last."""

    manifests: tuple[Manifest, ...]


@dataclass(frozen=True)
class Delete:
    """A Job to delete by its UID, before another takes its name."""

    job: Manifest


def observe(rollout: Rollout, ports: Ports, name: str) -> JobSeen:
    """Read a Job, its pods and the output of the pod that reports: the first index, the newest life."""
    namespace = rollout.spec.namespace
    job = ports.cluster.get(kinds.JOB, namespace, name)
    if job is None:
        return JobSeen(None)
    pods = tuple(ports.cluster.list(kinds.POD, namespace, {JOB_NAME_LABEL: name}))
    speakers = sorted((pod for pod in pods if _index(pod) in ("", "0")), key=_seniority)
    if not speakers:
        return JobSeen(job, pods)
    speaker = pod_state.name(speakers[-1])
    text = ports.logs.tail(namespace, speaker, CONTAINER, _TAIL_LINES)
    return JobSeen(job, pods, job_output.parse(text), speaker)


def settle(rollout: Rollout, seen: JobSeen, wanted: tuple[Manifest, ...], now: float) -> Act | Wait | Fail | Finished:
    """The common part of the decision; ``wanted`` ends with the Job."""
    job = seen.job
    if job is None:
        return Act(f"start Job {wanted[-1]['metadata']['name']}", Create(wanted))
    if pod_state.is_going(job):
        return Wait(f"Job {_name(job)} of an earlier try is being deleted")
    if annotation(job, names.CONTENT_ANNOTATION) != annotation(wanted[-1], names.CONTENT_ANNOTATION):
        return replace(job, "asks for something else")
    if pod_state.holds(job, "Complete"):
        this_try = attempt_of(job) == rollout.attempt
        return Finished(seen.output.report, job, this_try, this_try or run_of(job) == rollout.run_id)
    if pod_state.holds(job, "Failed"):
        return _failed(rollout, seen, job)
    return _running(seen, job, now)


def replace(job: Manifest, why: str) -> Act:
    """Delete a Job so that the next look creates it again."""
    return Act(f"replace Job {_name(job)}: it {why}", Delete(job))


def act(plan: object, ports: Ports) -> None:
    """Carry a ``Create`` or a ``Delete`` out."""
    if isinstance(plan, Delete):
        metadata = plan.job["metadata"]
        ports.cluster.delete(kinds.JOB, metadata["namespace"], metadata["name"], metadata["uid"])
    if isinstance(plan, Create):
        for manifest in plan.manifests[:-1]:
            ports.cluster.apply(manifest)
        ports.cluster.create(plan.manifests[-1])


def until_settled(
    what: str, look: Callable[[], Verdict], act: Callable[[object, Ports], None], ports: Ports
) -> Done | Wait | Fail:
    """Look and act until the verdict is not Act, for Jobs outside of a rollout, which need no lease.

    Raises:
        Transient: There is still something to write after several writes; ``what`` names it.
    """
    for _ in range(_MOST_ACTS):
        verdict = look()
        if not isinstance(verdict, Act):
            return verdict
        try:
            act(verdict.plan, ports)
        except Conflict:
            continue
    raise Transient(f"{what}: still something to write after {_MOST_ACTS} writes")


def run_of(job: Manifest) -> str:
    """The run that started a Job."""
    return attempt_of(job).rpartition("/")[0]


def _failed(rollout: Rollout, seen: JobSeen, job: Manifest) -> Act | Fail:
    if attempt_of(job) != rollout.attempt:
        return replace(job, "failed in an earlier try")
    error = seen.output.error
    condition = pod_state.condition(job, "Failed")
    told = f"{condition.get('reason', '')}: {condition.get('message', '')}"
    last_words = error.get("message") or "; ".join([*seen.output.other[-1:], told])
    return Fail(
        f"Job {_name(job)} failed: {last_words}",
        error.get("remedy") or "read the last lines in the evidence; then clear this task",
        {
            "job": _name(job),
            "pod": seen.speaker,
            "error": dict(error),
            "condition": told,
            "last_lines": list(seen.output.other[-_LAST_LINES:]),
        },
    )


def _running(seen: JobSeen, job: Manifest, now: float) -> Wait | Fail:
    for pod in seen.pods:
        trouble = pod_state.trouble(pod, now)
        if trouble is not None:
            return Fail(
                f"pod {trouble.pod} of Job {_name(job)} does not start: {trouble.reason} for "
                f"{now - trouble.since:.0f} s: {trouble.message}",
                trouble.remedy,
                {"job": _name(job), "pod": trouble.pod, "node": trouble.node, "reason": trouble.reason},
            )
    blocked = [f"{pod_state.name(pod)}: {words}" for pod in seen.pods if (words := pod_state.blocked(pod))]
    progress = {"job": _name(job), "pod": seen.speaker, **seen.output.progress}
    if seen.output.error:
        progress["error"] = dict(seen.output.error)
    return Wait(f"Job {_name(job)} runs" + "".join(f"; {words}" for words in blocked), progress)


def _index(pod: Manifest) -> str:
    return str(pod["metadata"].get("labels", {}).get(INDEX_LABEL, ""))


def _seniority(pod: Manifest) -> tuple[bool, str]:
    """A pod that succeeded speaks for the Job, else the newest."""
    return pod.get("status", {}).get("phase") == "Succeeded", pod["metadata"].get("creationTimestamp", "")


def _name(job: Manifest) -> str:
    return str(job["metadata"]["name"])


def annotation(manifest: Manifest, key: str) -> str:
    """An annotation, empty where there is none."""
    return str(manifest["metadata"].get("annotations", {}).get(key, ""))


def attempt_of(job: Manifest) -> str:
    """The try of a task that started a Job."""
    return annotation(job, names.ATTEMPT_ANNOTATION)
