"""The Kubernetes resource types that a rollout reads or writes."""

from __future__ import annotations

from llm_rollout.ports import Kind

CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
CUSTOM_RESOURCE_DEFINITION = Kind(
    "apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False
)
EVENT = Kind("v1", "Event", "events")
EVENT_V1 = Kind("events.k8s.io/v1", "Event", "events")
HORIZONTAL_POD_AUTOSCALER = Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
HTTP_ROUTE = Kind("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes")
IP_POOL = Kind("whereabouts.cni.cncf.io/v1alpha1", "IPPool", "ippools")
JOB = Kind("batch/v1", "Job", "jobs")
LEADER_WORKER_SET = Kind("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", "leaderworkersets")
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")
NETWORK_ATTACHMENT = Kind("k8s.cni.cncf.io/v1", "NetworkAttachmentDefinition", "network-attachment-definitions")
NODE = Kind("v1", "Node", "nodes", namespaced=False)
PERSISTENT_VOLUME_CLAIM = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
POD = Kind("v1", "Pod", "pods")
POD_MONITOR = Kind("monitoring.coreos.com/v1", "PodMonitor", "podmonitors")
RESOURCE_QUOTA = Kind("v1", "ResourceQuota", "resourcequotas")
SERVICE = Kind("v1", "Service", "services")
ENDPOINT_SLICE = Kind("discovery.k8s.io/v1", "EndpointSlice", "endpointslices")
