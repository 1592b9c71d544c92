"""Rules about what the model server is given: image, flags, environment, resources, NCCL settings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from llm_rollout.spec import RolloutSpec
from llm_rollout.spec_problems import holds_secret
from llm_rollout.spec_rules import Broken, Rule

FLAG_FIELDS = {
    "--model": "model.repo",
    "--served-model-name": "name (it is the served name)",
    "--tensor-parallel-size": "server.tensor_parallel",
    "-tp": "server.tensor_parallel",
    "--pipeline-parallel-size": "server.pipeline_parallel",
    "-pp": "server.pipeline_parallel",
    "--data-parallel-size": "groups (independent instances)",
    "-dp": "groups (independent instances)",
    "--gpu-memory-utilization": "server.gpu_memory_utilization",
    "--max-model-len": "server.max_model_len",
    "--distributed-timeout-seconds": "timing.cold_start_seconds",
    "--shutdown-timeout": "timing.drain_seconds",
    "--distributed-executor-backend": "server.executor",
    "--nnodes": "server.nodes_per_group",
    "-n": "server.nodes_per_group",
    "--node-rank": "nothing: LeaderWorkerSet knows it",
    "-r": "nothing: LeaderWorkerSet knows it",
    "--master-addr": "nothing: LeaderWorkerSet knows it",
    "--headless": "nothing: workers get it",
    "--host": "nothing: the leader listens on all addresses",
    "--port": "server.port",
    "--revision": "model.revision",
    "--hf-token": "model.token_secret",
}
"""Engine flags that the manifests set themselves, and the field of the spec that governs each."""

ENV_FIELDS = {
    "HF_HUB_OFFLINE": "nothing: weights are staged before the start",
    "HF_TOKEN": "model.token_secret",
    "HUGGING_FACE_HUB_TOKEN": "model.token_secret",
    "VLLM_HOST_IP": "nothing: it is the pod's address",
    "VLLM_ENGINE_READY_TIMEOUT_S": "timing.cold_start_seconds",
    "LWS_LEADER_ADDRESS": "nothing: LeaderWorkerSet sets it and drops yours",
    "LWS_GROUP_SIZE": "nothing: LeaderWorkerSet sets it and drops yours",
    "LWS_WORKER_INDEX": "nothing: LeaderWorkerSet sets it and drops yours",
}
"""Environment that the manifests set themselves, and the field of the spec that governs each."""

_NCCL_FIELDS = {
    "NCCL_IB_HCA": ("server.network.hcas sets it", "list the exact names in server.network.hcas"),
    "NCCL_SOCKET_IFNAME": ("server.network.socket_interface sets it", "set server.network.socket_interface"),
    "NCCL_IB_GID_INDEX": (
        "GID indexes differ from pod to pod, and NCCL finds the right one itself since 2.21",
        "remove it; steer with NCCL_IB_ADDR_RANGE or NCCL_IB_ROCE_VERSION_NUM where it must be steered",
    ),
    "NCCL_IB_DISABLE": ("server.network.rdma_resource governs it", "set server.network.rdma_resource: null instead"),
}

_HCA_FAMILIES = {"mlx4", "mlx5", "bnxt_re", "irdma", "efa", "hfi1", "rxe", "siw"}
_UNITS = {
    "": 1.0, "m": 1e-3,
    "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip
_LEAST = {"cpu": 0.001, "memory": 2.0**20, "shm": 2.0**20}
_MOST = {"cpu": 4096, "memory": 2.0**50, "shm": 2.0**50}
_FIRST_IMAGE_WITHOUT_RAY = (0, 19)


def images(spec: RolloutSpec) -> Iterator[Broken]:
    """The image is part of a revision's name, so it must mean the same tomorrow."""
    for path, image in (("server.image", spec.server.image), ("job_image", spec.job_image)):
        tag = image.rpartition("/")[2].partition(":")[2]
        if "@sha256:" not in image and tag in {"", "latest"}:
            message = "the image may change under the same name, and a revision with it"
            yield Broken(path, image, message, "write a version tag or @sha256:DIGEST")


def ray_image(spec: RolloutSpec) -> Iterator[Broken]:
    """Stock images of vLLM come without Ray since 0.19."""
    stock = re.search(r"(?:^|/)vllm/vllm-openai:v(\d+)\.(\d+)", spec.server.image)
    if spec.server.executor == "ray" and stock and (int(stock[1]), int(stock[2])) >= _FIRST_IMAGE_WITHOUT_RAY:
        message = f"the image {spec.server.image} has no Ray (stock images have none since 0.19)"
        yield Broken("server.executor", "ray", message, "set executor: mp, or name an image with Ray")


def extra_args(spec: RolloutSpec) -> Iterator[Broken]:
    """Flags that the spec does not set itself, each as the engine's parser will see it."""
    for index, argument in enumerate(spec.server.extra_args):
        path, flag = f"server.extra_args[{index}]", argument.partition("=")[0].replace("_", "-")
        if flag in FLAG_FIELDS:
            message = f"{flag} is set by the manifests, and twice it would contradict itself"
            yield Broken(path, argument, message, f"remove it and use {FLAG_FIELDS[flag]}")
        elif flag.startswith("-") and " " in flag:
            first, _, rest = argument.partition(" ")
            message = "flag and value in one item reach the engine as one unknown flag"
            yield Broken(path, argument, message, f"write {first}={rest.strip()}")
        elif index == 0 and not flag.startswith("-"):
            yield Broken(path, argument, "not a flag: the engine would take it for a model", "begin it with --")


def environment(spec: RolloutSpec) -> Iterator[Broken]:
    """Variables that the spec does not set itself."""
    for name, value in spec.server.env.items():
        path = f"server.env.{name}"
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            yield Broken(path, value, "not the name of a variable", "use letters, digits and '_'")
        elif name.startswith("NCCL_"):
            message = "NCCL's settings stand in one place, since the fabric is measured with them"
            yield Broken(path, value, message, f"move it to server.network.nccl_env.{name}")
        elif name in ENV_FIELDS:
            yield Broken(path, value, "set by the manifests", f"remove it and use {ENV_FIELDS[name]}")


def nccl_env(spec: RolloutSpec) -> Iterator[Broken]:
    """Settings for NCCL that no other field sets, without those that are wrong in pods."""
    for name, value in spec.server.network.nccl_env.items():
        path = f"server.network.nccl_env.{name}"
        if not name.startswith("NCCL_"):
            yield Broken(path, value, "not a setting of NCCL", f"move it to server.env.{name}")
        elif name in _NCCL_FIELDS:
            yield Broken(path, value, *_NCCL_FIELDS[name])
        elif name == "NCCL_DEBUG" and value not in {"INFO", "TRACE"}:
            message = "below INFO the log does not name the transport, and a fall back to sockets stays unseen"
            yield Broken(path, value, message, "remove it (INFO is set)")


def hcas(spec: RolloutSpec) -> Iterator[Broken]:
    """Exact device names: NCCL takes a bare family as a prefix that also matches storage and management ports."""
    for index, hca in enumerate(spec.server.network.hcas):
        path = f"server.network.hcas[{index}]"
        if hca in _HCA_FAMILIES:
            message = "the name of a family, which matches storage and management ports too"
            yield Broken(path, hca, message, f"list exact devices such as {hca}_0")
        elif not re.fullmatch(r"[A-Za-z][\w-]*", hca):
            yield Broken(path, hca, "not the name of one device", "write one name each, without '=', '^', ':' or ','")


def rails(spec: RolloutSpec) -> Iterator[Broken]:
    """One attachment for each HCA, or some rails have no address."""
    network = spec.server.network
    if network.attachments and len(network.attachments) != len(network.hcas):
        message = f"{len(network.attachments)} attachments for {len(network.hcas)} HCAs: a rail needs one of each"
        remedy = "list as many attachments as hcas (one may be listed repeatedly)"
        yield Broken("server.network.attachments", list(network.attachments), message, remedy)


def socket_interface(spec: RolloutSpec) -> Iterator[Broken]:
    """net1 and so on are the names that attachments get inside the pod."""
    network = spec.server.network
    attached = re.fullmatch(r"net(\d+)", network.socket_interface)
    if attached and int(attached[1]) not in range(1, len(network.attachments) + 1):
        message = f"there are {len(network.attachments)} attachments, so pods have no such interface"
        yield Broken("server.network.socket_interface", network.socket_interface, message, "write eth0")


def quantities(spec: RolloutSpec) -> Iterator[Broken]:
    """Kubernetes quantities of a size that a node can have: 200m of memory is a fifth of a byte."""
    for name, text in spec.server.resources.model_dump().items():
        path = f"server.resources.{name}"
        amount = _quantity(text)
        example = "32" if name == "cpu" else "200Gi"
        if amount is None:
            yield Broken(path, text, "not a Kubernetes quantity", f"write a number with a unit, as in {example}")
        elif not _LEAST[name] <= amount <= _MOST[name]:
            unit = "cores" if name == "cpu" else "bytes"
            message = f"{amount:.3g} {unit} cannot be meant"
            yield Broken(path, text, message, f"check the unit; {example} is usual")


def secrets(spec: RolloutSpec) -> Iterator[Broken]:
    """Specs are kept under version control and in the record: tokens belong into a Secret."""
    for path, text in _texts(spec.model_dump(mode="json"), ""):
        if holds_secret(text):
            remedy = "remove it, revoke it, and name a Secret with the key HF_TOKEN in model.token_secret"
            yield Broken(path, text, "a credential in plain text", remedy)


def _quantity(text: str) -> float | None:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([A-Za-z]*)", text)
    return float(match[1]) * _UNITS[match[2]] if match and match[2] in _UNITS else None


def _texts(value: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, f"{path}.{key}".removeprefix("."))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, f"{path}[{index}]")


SERVER_RULES = (
    Rule((), secrets),
    Rule(("server.image", "job_image"), images),
    Rule(("server.image", "server.executor"), ray_image),
    Rule(("server.extra_args",), extra_args),
    Rule(("server.env",), environment),
    Rule(("server.network.nccl_env",), nccl_env),
    Rule(("server.network.hcas",), hcas),
    Rule(("server.network.attachments", "server.network.hcas"), rails),
    Rule(("server.network.attachments", "server.network.socket_interface"), socket_interface),
    Rule(("server.resources",), quantities),
)
