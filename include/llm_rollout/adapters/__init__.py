"""The only code of the library that talks to the outside."""

from __future__ import annotations

from typing import Any

from llm_rollout.adapters.hub import HuggingFaceHub
from llm_rollout.adapters.kube import KubeAccess, KubeCluster, KubePodLogs
from llm_rollout.adapters.model_server import ProxiedModelServer
from llm_rollout.ports import Evidence, Ports


def ports_from(api_client: Any, evidence: Evidence) -> Ports:
    """All ports over one ``kubernetes.client.ApiClient``."""
    return Ports(
        cluster=KubeCluster(api_client),
        logs=KubePodLogs(api_client),
        access=KubeAccess(api_client),
        hub=HuggingFaceHub(),
        server=ProxiedModelServer(api_client.configuration),
        evidence=evidence,
    )


def connect(kubeconfig: str | None = None, *, in_cluster: bool = False, evidence: Evidence) -> Ports:
    """All ports for a kubeconfig file (None: ``KUBECONFIG`` or the default file), or from inside a pod."""
    from kubernetes import client, config  # noqa: PLC0415 - a second of imports that commands without a cluster save

    configuration = client.Configuration()
    if in_cluster:
        config.load_incluster_config(client_configuration=configuration)
    else:
        config.load_kube_config(config_file=kubeconfig, client_configuration=configuration)
    return ports_from(client.ApiClient(configuration), evidence)
