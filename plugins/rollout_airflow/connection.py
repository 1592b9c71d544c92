"""From Airflow's connection ``kubernetes_default`` and its environment to the ports of a step.

Operators and triggers use the same connection type and the same extras: ``in_cluster``, ``kube_config_path`` or
``kube_config``, with ``cluster_context``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow.sdk import BaseHook, ObjectStoragePath
from airflow.sdk.exceptions import AirflowNotFoundException

from llm_rollout.errors import Permanent
from llm_rollout.ports import Ports

CONNECTION_ID = "kubernetes_default"
EVIDENCE = "LLM_ROLLOUT_EVIDENCE"
"""A folder or an object store address such as ``s3://aws_default@bucket/rollouts``."""
_REMEDY = (
    f'set AIRFLOW_CONN_{CONNECTION_ID.upper()} to {{"conn_type": "kubernetes", "extra": {{"in_cluster": true}}}}, '
    "or name a file in kube_config_path"
)


class ObjectEvidence:
    """``ports.Evidence`` on whatever Airflow's object storage reaches."""

    def __init__(self, root: str) -> None:
        """Keep everything below ``root``, a folder or an address."""
        self._root = root if "://" in root else f"file://{Path(root).resolve()}"

    def put(self, path: str, text: str) -> str:
        """See ``ports.Evidence``; the address is the object's, without credentials."""
        if path.startswith("/") or ".." in path.split("/"):
            raise Permanent(f"evidence path {path!r} leaves {self._root}: use a relative path without ..")
        target = ObjectStoragePath(self._root) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return str(target)


def ports() -> Ports:
    """The ports, for a task in a worker.

    Raises:
        Permanent: There is no connection, or it does not say where the cluster is.
    """
    try:
        return ports_from(BaseHook.get_connection(CONNECTION_ID).extra_dejson)
    except AirflowNotFoundException:
        raise Permanent(f"there is no connection {CONNECTION_ID}: {_REMEDY}") from None


async def trigger_ports() -> Ports:
    """The ports, for a trigger in its event loop. Raises Permanent as ``ports`` does."""
    return ports_from(await trigger_extras())


async def trigger_extras() -> Mapping[str, Any]:
    """What the connection says, for a trigger in its event loop. Raises Permanent where there is none."""
    try:
        extras: Mapping[str, Any] = (await BaseHook.aget_connection(CONNECTION_ID)).extra_dejson
    except AirflowNotFoundException:
        raise Permanent(f"there is no connection {CONNECTION_ID}: {_REMEDY}") from None
    return extras


def ports_from(extras: Mapping[str, Any]) -> Ports:
    """The ports for a connection's extras. Raises Permanent."""
    return ports_over(api_client(extras))


def ports_over(client: Any) -> Ports:
    """The ports over a client that ``api_client`` made."""
    from llm_rollout.adapters import ports_from as over  # noqa: PLC0415 - a second of imports, which parsing saves

    return over(client, ObjectEvidence(_evidence_root()))


def _evidence_root() -> str:
    return os.environ.get(EVIDENCE) or str(Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser() / "evidence")


def api_client(extras: Mapping[str, Any], connections: int | None = None) -> Any:
    """A client for a connection's extras that keeps so many ``connections`` open. Raises Permanent."""
    from kubernetes import client, config  # noqa: PLC0415 - as above

    configuration = client.Configuration()
    if connections is not None:
        configuration.connection_pool_maxsize = connections
    context = extras.get("cluster_context")
    try:
        if extras.get("in_cluster"):
            config.load_incluster_config(client_configuration=configuration)
        elif extras.get("kube_config_path"):
            config.load_kube_config(extras["kube_config_path"], context=context, client_configuration=configuration)
        elif extras.get("kube_config"):
            written = extras["kube_config"]
            parsed = json.loads(written) if isinstance(written, str) else written
            config.load_kube_config_from_dict(parsed, context=context, client_configuration=configuration)
        else:
            raise Permanent(f"connection {CONNECTION_ID} does not say where the cluster is: {_REMEDY}")
    except (config.ConfigException, OSError, ValueError) as error:
        raise Permanent(f"connection {CONNECTION_ID}: {error}: {_REMEDY}") from None
    return client.ApiClient(configuration)
