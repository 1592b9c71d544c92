"""The Job that removes from a model store what nobody needs, or says what would go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from llm_rollout import names
from llm_rollout.manifests import pods, stamp
from llm_rollout.manifests.job import Work, job
from llm_rollout.ports import Manifest
from llm_rollout.spec import RolloutSpec

STEP = "collect_garbage"
DEADLINE_SECONDS = 6 * 3600
"""It waits for a staging to end, which gets four hours unless a spec says otherwise, and then deletes."""


@dataclass(frozen=True)
class Rules:
    """What goes: all but roots, the newest ``keep`` commits of each repository, and what is younger than the grace."""

    keep: int
    grace_seconds: int
    dry_run: bool


def collect_job_name(claim: str, *, dry_run: bool) -> str:
    """The Job that looks at, or clears, the store of one claim."""
    return f"llm-rollout-collect-{names.short(claim)}" + ("-dry" if dry_run else "")


def collect_job(spec: RolloutSpec, roots: Iterable[str], rules: Rules, attempt: str) -> Manifest:
    """One collection on the store of ``spec``, which keeps ``roots``. It carries no model's label.

    What clears a model's Jobs away must not end it: the store is the namespace's.
    """
    work = Work(
        name=collect_job_name(spec.store.claim, dry_run=rules.dry_run),
        step=STEP,
        command=[
            "llm-rollout",
            "gc",
            f"--store={spec.store.mount_path}",
            f"--keep={rules.keep}",
            f"--grace={rules.grace_seconds}",
            *(f"--root={root}" for root in sorted(roots)),
            *(["--dry-run"] if rules.dry_run else []),
        ],
        deadline_seconds=DEADLINE_SECONDS,
        container={
            "resources": {"requests": {"cpu": "500m", "memory": "256Mi"}},
            "volumeMounts": [pods.store_mount(spec, read_only=rules.dry_run)],
        },
        pod={"volumes": [pods.store_volume(spec)]},
    )
    made = job(spec, work, attempt)
    for part in (made, made["spec"]["template"]):
        del part["metadata"]["labels"][names.MODEL_LABEL]
    return stamp(made)
