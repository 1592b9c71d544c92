"""Metadata of model repositories through huggingface_hub; it downloads nothing."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

from llm_rollout.errors import Permanent, Transient
from llm_rollout.ports import HubCommit, HubFile

TIMEOUT_SECONDS = 30
_WAIT_AND_ASK_AGAIN = (408, 429)
_SERVER_ERRORS = 500


class HuggingFaceHub:
    """``ports.Hub`` on any server that speaks the Hugging Face protocol.

    ``HF_ENDPOINT`` in the calling process wins over the spec's endpoint: it is how Airflow itself reaches the hub
    where the spec names an address that only pods can reach. The token comes from ``HF_TOKEN``, if at all.
    """

    def resolve(self, repo: str, revision: str, endpoint: str) -> HubCommit:
        """See ``ports.Hub``. Asks the server every time: a cached answer would hide a new commit."""
        from huggingface_hub import HfApi  # noqa: PLC0415 - a second of imports that most commands save
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError  # noqa: PLC0415

        api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or endpoint, token=os.environ.get("HF_TOKEN") or False)
        try:
            # The library lists trees without any timeout and repeats them by itself; this is one bounded request.
            info = api.model_info(repo, revision=revision, timeout=TIMEOUT_SECONDS, files_metadata=True)
            return HubCommit(_commit(info), tuple(_file(sibling) for sibling in info.siblings or ()))
        except HfHubHTTPError as error:
            raise _sorted(error, repo, revision) from None
        except HFValidationError:
            raise Permanent(
                f"model.repo {repo!r} cannot be the name of a repository: write organisation/name"
            ) from None
        except Exception as error:  # the transport's exceptions change with every major release of the library
            host = urlsplit(str(api.endpoint)).hostname  # the address may carry a password
            raise Transient(f"the hub at {host} did not answer as a hub does: {type(error).__name__}") from error

    def xet_hashes(self, repo: str, commit: str, endpoint: str) -> dict[str, str]:
        """By path, the Xet hash of each file that has one. May block for minutes: the library sets no timeout here.

        Raises:
            Transient: The hub did not list them.
        """
        from huggingface_hub import HfApi, RepoFile  # noqa: PLC0415 - as above

        api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or endpoint, token=os.environ.get("HF_TOKEN") or False)
        try:
            entries = list(api.list_repo_tree(repo, recursive=True, revision=commit))
        except Exception as error:  # noqa: BLE001 - as above
            raise Transient(f"the hub did not list the Xet hashes: {type(error).__name__}") from None
        return {entry.path: entry.xet_hash for entry in entries if isinstance(entry, RepoFile) and entry.xet_hash}


def _commit(info: Any) -> str:
    if not info.sha:
        raise ValueError("a model without a commit")
    return str(info.sha)


def _file(sibling: Any) -> HubFile:
    size_bytes = int(sibling.size)  # None where a mirror knows no sizes: not an answer to plan with
    if sibling.lfs is not None:
        return HubFile(sibling.rfilename, size_bytes, sha256=sibling.lfs.sha256, git_sha1=None)
    return HubFile(sibling.rfilename, size_bytes, sha256=None, git_sha1=sibling.blob_id)


def _sorted(error: Any, repo: str, revision: str) -> Exception:
    from huggingface_hub import errors  # noqa: PLC0415

    status = error.response.status_code
    if isinstance(error, errors.GatedRepoError):
        return Permanent(f"model.repo {repo} is gated: accept its terms and name a token in model.token_secret")
    if isinstance(error, errors.RevisionNotFoundError):
        return Permanent(f"model.revision {revision!r} does not exist in {repo}: name a branch, tag or commit")
    if isinstance(error, errors.RepositoryNotFoundError):
        return Permanent(f"model.repo {repo} is not there, or private: check the name, or name model.token_secret")
    if status >= _SERVER_ERRORS or status in _WAIT_AND_ASK_AGAIN:
        return Transient(f"the hub answered {status} for {repo} at {revision}")
    return Permanent(
        f"the hub refused {repo} at {revision} with {status}: check model.endpoint, HF_TOKEN and its rights"
    )
