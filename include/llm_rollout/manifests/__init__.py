"""Kubernetes objects as pure functions of the spec and the plan.

Every builder returns a stamped manifest: the same input gives the same object and the same content annotation,
so a step can tell "already as wanted" from "needs applying" without comparing what the API server has defaulted.
"""

from __future__ import annotations

import json

from llm_rollout import names
from llm_rollout.ports import Manifest

_NOT_CONTENT = {names.ATTEMPT_ANNOTATION, names.FENCE_ANNOTATION, names.CONTENT_ANNOTATION}


def stamp(manifest: Manifest) -> Manifest:
    """A copy with the content annotation: the digest of everything except attempt, fencing token and the stamp itself.

    Stamping twice changes nothing. The copy shares nothing with its source and holds JSON values only.
    """
    copy: Manifest = json.loads(json.dumps(manifest))
    annotations = copy["metadata"].setdefault("annotations", {})
    content = {key: value for key, value in annotations.items() if key not in _NOT_CONTENT}
    digest = names.digest({**copy, "metadata": {**copy["metadata"], "annotations": content}})
    annotations[names.CONTENT_ANNOTATION] = digest
    return copy
