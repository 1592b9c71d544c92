"""Names are content: the same target has the same names, so adoption needs no memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

PREFIX = "llm-rollout.dev"
FIELD_MANAGER = "llm-rollout"

MODEL_LABEL = f"{PREFIX}/model"
"""The spec's name, on everything a rollout creates. Read by the steps and people."""
REVISION_LABEL = f"{PREFIX}/revision-id"
"""The revision_id, on what belongs to one revision. Read by the steps and by the Service's selector."""
STEP_LABEL = f"{PREFIX}/step"
"""The step that created the object. Read by the steps to find their Job."""
ROLE_LABEL = f"{PREFIX}/role"
"""``leader`` or ``worker`` on the pods of a group. Read by the Service's selector."""
CONTENT_ANNOTATION = f"{PREFIX}/content"
"""sha256 of the manifest as rendered. Read to tell "already as wanted" from "needs applying"."""
ATTEMPT_ANNOTATION = f"{PREFIX}/attempt"
"""The attempt that created a Job. A failed Job of an earlier attempt is replaced, one of this attempt is a failure."""
FENCE_ANNOTATION = f"{PREFIX}/fencing-token"
"""The lease's transition count when the object was written."""
MEASURES_ANNOTATION = f"{PREFIX}/measures"
"""On a Job that measures the fabric, what its report is about: nodes with their boot ids, and the settings' digest."""
RESTARTS_ANNOTATION = f"{PREFIX}/restarts"
"""On a LeaderWorkerSet that is not serving yet: which starts have failed, until when it pauses, whether it gave up."""
SWITCHED_ANNOTATION = f"{PREFIX}/switched-at"
"""When the Service's selector last changed, in RFC 3339. Read by ``watch_live`` and by what drains groups."""

_LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")


def digest(value: Any) -> str:
    """sha256 in hex of a JSON value, independent of key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def revision_id(commit: str, server: Mapping[str, Any]) -> str:
    """8 letters a-p for a commit and the server part of the spec.

    Letters only: LeaderWorkerSet derives StatefulSet names ``<lws>-<group>``, so a name that ended in a
    number could collide with a group of another LeaderWorkerSet (kubernetes-sigs/lws#236).
    """
    return digest({"commit": commit, "server": server})[:8].translate(_LETTERS)


def short(value: Any) -> str:
    """8 letters a-p for any JSON value, for the names of Jobs."""
    return digest(value)[:8].translate(_LETTERS)


def record_name(model: str) -> str:
    """The ConfigMap that holds the model's record, and the Lease beside it."""
    return f"llm-rollout-{model}"


def measurements_name(model: str) -> str:
    """The ConfigMap that holds what was measured of the fabric. No model's name has a dot, so it is no record's."""
    return f"{record_name(model)}.fabric"


def candidate_service_name(service: str) -> str:
    """The Service of a candidate that gets a share of the requests before ``service`` selects it."""
    return f"{service}-candidate"


def lws_name(model: str, revision: str) -> str:
    """The LeaderWorkerSet of one revision."""
    return f"{model}-{revision}"


def stage_job_name(model: str, commit: str) -> str:
    """The Job that stages one commit."""
    return f"{model}-stage-{commit[:8].translate(_LETTERS)}"


def validate_job_name(model: str, fingerprint: Any) -> str:
    """The Job (and headless Service) that measures the fabric between one set of nodes."""
    return f"{model}-fabric-{short(fingerprint)}"


def evaluate_job_name(model: str, candidate: str, run_id: str) -> str:
    """The Job that compares the candidate with stable in one rollout."""
    return f"{model}-canary-{candidate}-{short(run_id)[:4]}"
