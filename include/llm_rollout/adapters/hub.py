"""Metadata of model repositories through huggingface_hub; it downloads nothing."""

from __future__ import annotations

import os
from typing import Any

from llm_rollout.errors import Permanent, Transient
from llm_rollout.ports import HubCommit, HubFile

TIMEOUT_SECONDS = 30


class HuggingFaceHub:
    """``ports.Hub`` on any server that speaks the Hugging Face protocol.

    ``HF_ENDPOINT`` in the calling process wins over the spec's endpoint: it is how Airflow itself reaches the hub
    where the spec names an address that only pods can reach. The token comes from ``HF_TOKEN``, if at all.
    """

    def resolve(self, repo: str, revision: str, endpoint: str) -> HubCommit:
        """See ``ports.Hub``. Asks the server every time: a cached answer would hide a new commit."""
        from huggingface_hub import HfApi  # noqa: PLC0415 - a second of imports that most commands save
        from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

        api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or endpoint, token=os.environ.get("HF_TOKEN") or False)
        try:
            info = api.model_info(repo, revision=revision, timeout=TIMEOUT_SECONDS)
            tree = api.list_repo_tree(repo, revision=info.sha, recursive=True)
            return HubCommit(str(info.sha), tuple(_file(entry) for entry in tree if hasattr(entry, "blob_id")))
        except HfHubHTTPError as error:
            raise _sorted(error, repo, revision) from None
        except Exception as error:  # the transport's exceptions change with every major release of the library
            raise Transient(f"the hub at {api.endpoint} did not answer: {type(error).__name__}") from error


def _file(entry: Any) -> HubFile:
    if entry.lfs is not None:
        return HubFile(entry.path, entry.size, sha256=entry.lfs.sha256, git_sha1=None)
    return HubFile(entry.path, entry.size, sha256=None, git_sha1=entry.blob_id)


def _sorted(error: Any, repo: str, revision: str) -> Exception:
    from huggingface_hub import errors  # noqa: PLC0415

    if isinstance(error, errors.GatedRepoError):
        return Permanent(f"model.repo {repo} is gated: accept its terms and name a token in model.token_secret")
    if isinstance(error, errors.RevisionNotFoundError):
        return Permanent(f"model.revision {revision!r} does not exist in {repo}: name a branch, tag or commit")
    if isinstance(error, errors.RepositoryNotFoundError):
        return Permanent(f"model.repo {repo} is not there, or private: check the name, or name model.token_secret")
    return Transient(f"the hub answered {getattr(error.response, 'status_code', '?')} for {repo} at {revision}")
