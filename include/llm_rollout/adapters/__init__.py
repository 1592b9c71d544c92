"""The only code of the library that talks to the outside."""

from __future__ import annotations

from typing import Any

from llm_rollout.adapters.kube import KubeAccess, KubeCluster, KubePodLogs
from llm_rollout.adapters.model_server import ProxiedModelServer
from llm_rollout.adapters.sources import Sources
from llm_rollout.errors import Permanent
from llm_rollout.ports import Evidence, Ports


def ports_from(api_client: Any, evidence: Evidence) -> Ports:
    """All ports over one ``kubernetes.client.ApiClient``."""
    return Ports(
        cluster=KubeCluster(api_client),
        logs=KubePodLogs(api_client),
        access=KubeAccess(api_client),
        hub=Sources(),
        server=ProxiedModelServer(api_client.configuration),
        evidence=evidence,
    )


def cluster_of(kubeconfig: str | None = None) -> KubeCluster:
    """Only the cluster, for a kubeconfig file (None: ``KUBECONFIG`` or the default file)."""
    return KubeCluster(_api_client(kubeconfig, in_cluster=False))


def connect(kubeconfig: str | None = None, *, in_cluster: bool = False, evidence: Evidence) -> Ports:
    """All ports for a kubeconfig file (None: ``KUBECONFIG`` or the default file), or from inside a pod."""
    return ports_from(_api_client(kubeconfig, in_cluster=in_cluster), evidence)


def _api_client(kubeconfig: str | None, *, in_cluster: bool) -> Any:
    import yaml  # noqa: PLC0415 - a second of imports, with the next line, that commands without a cluster save
    from kubernetes import client, config  # noqa: PLC0415

    configuration = client.Configuration()
    try:
        if in_cluster:
            config.load_incluster_config(client_configuration=configuration)
        else:
            config.load_kube_config(config_file=kubeconfig, client_configuration=configuration)
    except config.ConfigException as error:
        raise Permanent(f"no usable kubeconfig: {error}: set KUBECONFIG to a file that exists") from error
    except (yaml.YAMLError, TypeError, ValueError):  # their texts quote the file, and it holds a token
        raise Permanent("no usable kubeconfig: the file is no YAML of kind Config: set KUBECONFIG to one") from None
    return client.ApiClient(configuration)
