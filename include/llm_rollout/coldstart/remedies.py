"""What to do about each class of cause, in terms of the spec's fields."""

from __future__ import annotations

from typing import Final

_REMEDIES: Final = {
    "GPU_OOM": "lower server.gpu_memory_utilization or server.max_model_len, or spread the model over more GPUs: "
    "server.tensor_parallel, server.nodes_per_group",
    "GPU_BUSY": "another process holds GPU memory on that node: end it, or wait until the group before is gone; or "
    "lower server.gpu_memory_utilization",
    "HOST_MEMORY": "raise server.resources.memory, or server.resources.shm where /dev/shm is full; or free disk "
    "space on the node where a device is full",
    "KV_TOO_SMALL": "lower server.max_model_len, raise server.gpu_memory_utilization, or spread the model over more "
    "GPUs: server.tensor_parallel, server.nodes_per_group",
    "BAD_MAX_LEN": "lower server.max_model_len to what the model supports, or leave it out",
    "BAD_FLAG": "correct server.extra_args and server.env: this version of the engine (server.image) refuses what "
    "the message names",
    "PARALLEL_CFG": "make server.tensor_parallel * server.pipeline_parallel equal server.nodes_per_group * "
    "server.gpus_per_node, with numbers that divide the model's attention heads and layers",
    "FLAGS_DISAGREE": "give leader and workers the same image, model and flags: put them in server.image and "
    "server.extra_args, which hold for every node of a group, and start the whole group anew",
    "MODEL_REF": "check store.claim, store.mount_path, model.repo and model.revision, and that the pods may read the "
    "files there; then clear stage_weights",
    "MODEL_UNSUPPORTED": "choose a server.image whose engine and GPUs support this model, or set what the message "
    "asks for in server.extra_args (--trust-remote-code, --quantization, --dtype)",
    "CONFIG_BROKEN": "the model's config.json cannot be used: clear stage_weights to fetch it again, or choose "
    "another model.revision",
    "TOKENIZER": "the tokenizer's files are missing or broken: clear stage_weights to fetch them again, choose "
    "another model.revision, or name a tokenizer in server.extra_args",
    "WEIGHTS_MISSING": "clear stage_weights: the store lacks files or tensors of this commit; or choose a "
    "model.revision that is complete",
    "WEIGHTS_CORRUPT": "remove the commit from store.claim and clear stage_weights: files are damaged or git-LFS "
    "pointers; if it comes again, model.revision itself is damaged",
    "WEIGHTS_MISMATCH": "config.json and weights do not belong together: choose a model.revision that is "
    "consistent, or a server.image and --quantization in server.extra_args that fit it",
    "PERMISSION": "let the pods read store.claim (fsGroup, modes) and write their cache; for a gated repository "
    "name model.token_secret with a token that may read model.repo",
    "PORT_IN_USE": "choose another server.port, or --master-port in server.extra_args; on the host network end the "
    "process that holds the port",
    "MISSING_DEPENDENCY": "choose a server.image that has what the message names and fits the node's GPU driver; "
    "check that the nodes offer GPUs to pods (server.gpus_per_node)",
    "NCCL": "clear validate_rdma and read which link it names; check server.network (hcas, socket_interface, nccl_env)",
    "RENDEZVOUS": "the pods of the group do not reach each other: check network policies, the headless Service, "
    "server.network.socket_interface, and that --nnodes, --master-addr and --master-port agree on all nodes",
    "PEER_LOST": "another pod of the group ended first: its own log, exit code and node say why",
    "RAY_WAIT": "Ray never had the GPUs: make server.nodes_per_group * server.gpus_per_node fit "
    "server.tensor_parallel * server.pipeline_parallel, and see that every worker joined; or server.executor: mp",
    "RAY_FAIL": "use a server.image with Ray, or server.executor: mp",
    "TIMEOUT": "raise timing.cold_start_seconds, from which the engine's own timeouts are derived, or make the load "
    "faster",
    "ENGINE_BUG": "an error inside the engine: try another server.image, or --enforce-eager in server.extra_args; "
    "if it stays with one node, take that node's GPUs out of service",
    "TERMINATED": "nothing: the engine was asked to stop; if nobody of yours did, see who deleted the pod",
    "UNKNOWN": "read the lines around it in the evidence, correct the spec, and start a new rollout; where it "
    "speaks of ECC, Xid or a GPU that is lost, take that node out of service",
    "SCHEDULING": "no node can take the pods: free nodes, or lower server.gpus_per_node, server.resources or "
    "server.nodes_per_group; check taints and node selectors",
    "QUOTA": "raise the namespace's ResourceQuota, or lower groups, server.nodes_per_group or server.resources",
    "IMAGE": "check server.image: name, tag, registry and pull secret",
    "VOLUME": "check store.claim: it must exist, be bound, and be mountable by several nodes at once (ReadWriteMany)",
    "SECRET": "create the Secret or ConfigMap that the message names in the model's namespace, or correct the field "
    "that names it (model.token_secret, server.env)",
    "NODE_LOST": "a node stopped answering: repair or cordon it; the next start plans without it",
    "EVICTED": "the node ran short of what the message names: raise server.resources to what the pods use",
    "PROBE_KILLED": "the probe ended the engine before it had loaded: raise timing.cold_start_seconds, from which "
    "the startup probe is derived",
    "STALLED": "nothing moved for longer than this phase may take: look at the last lines and at the node; raise "
    "the phase's patience or timing.cold_start_seconds if it was only slow",
}


def remedy(class_name: str) -> str:
    """What to do about a cause of this class.

    Raises:
        KeyError: It is none of ``LOG_CLASSES`` and ``CLUSTER_CLASSES``.
    """
    return _REMEDIES[class_name]
