"""Where revisions become commits: at a hub, or at an object store or directory, as the endpoint says."""

from __future__ import annotations

import os
from collections.abc import Mapping

from llm_rollout.adapters.hub import HuggingFaceHub
from llm_rollout.ports import HubCommit
from llm_rollout.staging.object_source import ObjectSource, is_object_store


class Sources:
    """``ports.Hub`` for every endpoint that a spec may name.

    ``HF_ENDPOINT`` in the calling process wins over a hub's address, as ``HuggingFaceHub`` says; an object store has
    one address for everybody, so that of the spec is used.
    """

    def resolve(self, repo: str, revision: str, endpoint: str) -> HubCommit:
        """See ``ports.Hub``."""
        place = endpoint if is_object_store(endpoint) else os.environ.get("HF_ENDPOINT") or endpoint
        if is_object_store(place):
            return ObjectSource(place).find(repo, revision).commit
        return HuggingFaceHub().resolve(repo, revision, place)

    def xet_hashes(self, repo: str, commit: str, endpoint: str) -> Mapping[str, str]:
        """See ``staging.xet_transport.XetListing``."""
        return HuggingFaceHub().xet_hashes(repo, commit, endpoint)
