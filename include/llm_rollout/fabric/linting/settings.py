"""K6 to K11: NCCL's settings, as far as their values are wrong or doubtful wherever they run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from llm_rollout.fabric.linting.networks import POD_SIDE_NAME
from llm_rollout.fabric.linting.users import User
from llm_rollout.manifests import corrections
from llm_rollout.manifests.findings import Finding, Template, mappings, text

_TRAFFIC_CLASSES, _SERVICE_LEVELS, _QUEUE_PAIRS = range(256), range(16), range(1, 129)
"""A traffic class is a whole ToS byte with the DSCP in its upper six bits."""
_CHOOSES_GID = (2, 21)
"""Since this version NCCL finds the GID itself (NCCL_IB_GID_INDEX -1 is the default); until 2.20 it takes index 0."""
_LAST_VLLM_BEFORE = (0, 6, 3)
"""vLLM's images up to this one carry torch 2.4 or older, and with it NCCL 2.20 or older."""
_LOSSLESS = "0 is NCCL's default; on RoCE 4 * the DSCP of the switches' lossless class"
_LEVEL = "0 is NCCL's default; on InfiniBand the service level of the switches' lossless class"


def defects(user: User) -> Iterator[Finding]:
    """Everything that is wrong with the values, and what may be (warnings)."""
    template = user.template
    yield from _adapters(user)
    yield from _gid_index(template)
    yield from _interface(user)
    yield from _classes(template)
    yield from _switch_settings(template)


def visibility(user: User) -> Iterator[Finding]:
    """K10: settings beside the pods configure nothing, and a quiet log hides the transport."""
    template, env = user.template, user.template.env
    path = template.at("env")
    if template.container.get("envFrom"):
        return
    loud = {"NCCL_DEBUG": "INFO", "NCCL_DEBUG_SUBSYS": "INIT,NET"}
    if not any(name.startswith("NCCL_") for name in env):
        message = "the pods ask for RDMA and have no NCCL settings; those written elsewhere do not reach them"
        advice = (message, "put NCCL_IB_HCA, NCCL_SOCKET_IFNAME and NCCL_DEBUG into both templates")
        settings = {"NCCL_IB_HCA": _exact("mlx5", user), "NCCL_SOCKET_IFNAME": "=eth0", **loud}
        corrected = corrections.variables(template, settings, "the HCAs' names are those of ibv_devices on the node")
        yield template.finding("K10", path, None, advice, corrected)
        return
    subsystems, level = _known(template, "NCCL_DEBUG_SUBSYS"), _known(template, "NCCL_DEBUG", "")
    if level is not None and level.upper() not in {"INFO", "TRACE"}:
        message = "below INFO the log does not name the transport, so a fall back to sockets stays unseen"
        advice = (message, "write INFO, with NCCL_DEBUG_SUBSYS=INIT,NET")
        corrected = corrections.variables(template, loud)
        yield template.finding("K10", f"{path}.NCCL_DEBUG", env.get("NCCL_DEBUG"), advice, corrected)
    elif subsystems and not _names_the_transport(subsystems):
        message = "without INIT and NET the log does not name the transport, so a fall back to sockets stays unseen"
        corrected = corrections.variables(template, {"NCCL_DEBUG_SUBSYS": "INIT,NET"})
        advice = (message, "write INIT,NET, or ALL")
        yield template.finding("K10", f"{path}.NCCL_DEBUG_SUBSYS", subsystems, advice, corrected)


def stray(block: Template, users: list[User]) -> Finding:
    """K10: an env block outside of the pods."""
    entries = mappings(block.manifest.get("env"))
    placed = [corrections.in_container(user.template, {"env": entries}) for user in users]
    corrected = corrections.together(*placed, corrections.instead(block.name, None))
    message = "an env block beside the manifests reaches no container"
    return block.finding("K10", "env", None, (message, "put it into the containers of leader and worker"), corrected)


def _adapters(user: User) -> Iterator[Finding]:
    """K6: NCCL_IB_HCA takes prefixes unless told otherwise."""
    template = user.template
    hca = template.env.get("NCCL_IB_HCA")
    if hca and not hca.startswith(("=", "^=")):
        message = "taken as prefixes, which also match storage and management ports"
        remark = "the names are those of ibv_devices on the node, without storage and management ports"
        corrected = corrections.variables(template, {"NCCL_IB_HCA": _exact(hca, user)}, remark)
        advice = (message, "write exact names: =mlx5_0,mlx5_1,…")
        yield template.finding("K6", template.at("env.NCCL_IB_HCA"), hca, advice, corrected)


def _exact(listed: str, user: User) -> str:
    """Every name in full; a bare prefix stands for as many adapters as there are rails."""
    sign = "^=" if listed.startswith("^") else "="
    rails = max(user.rails, len(user.attachments), 1)
    names = [name for name in listed.removeprefix("^").split(",") if name]
    full = [[name] if re.search(r"\d$", name.partition(":")[0][-1:]) and "_" in name else
            [f"{name.partition(':')[0].rstrip('_')}_{rail}" for rail in range(rails)] for name in names]  # fmt: skip
    return sign + ",".join(name for group in full for name in group)


def _gid_index(template: Template) -> Iterator[Finding]:
    """K7: an index is right on one NIC of one pod only."""
    index = template.env.get("NCCL_IB_GID_INDEX") or "-1"
    if index == "-1":
        return
    path = template.at("env.NCCL_IB_GID_INDEX")
    version = nccl_version(template)
    if version is not None and version < _CHOOSES_GID:
        known = ".".join(map(str, version))
        message = f"GID indexes differ from pod to pod, but NCCL {known} takes index 0 unless told"
        fix = "verify the index in every pod with show_gids, or take an image with NCCL 2.21 or newer and remove it"
        yield template.warning("K7", path, index, (message, fix))
        return
    message = "GID indexes differ from pod to pod; NCCL finds the right one itself since 2.21"
    advice = (message, "remove it, or steer by NCCL_IB_ADDR_RANGE or NCCL_IB_ROCE_VERSION_NUM")
    corrected = corrections.variables(template, {"NCCL_IB_GID_INDEX": None})
    yield template.finding("K7", path, index, advice, corrected)


def nccl_version(template: Template) -> tuple[int, ...] | None:
    """NCCL's major and minor version as the container shows it; None where it does not.

    The variable NCCL_VERSION, which CUDA's images set, then a tag that names NCCL, then the tags of vLLM's own images.
    """
    image = text(template.container.get("image"))
    written = re.match(r"(\d+)\.(\d+)", template.env.get("NCCL_VERSION", "")) or re.search(
        r"nccl[-_:]?v?(\d+)\.(\d+)", image.rpartition("/")[2]
    )
    if written:
        return int(written[1]), int(written[2])
    stock = re.search(r"vllm/vllm-openai:v(\d+)\.(\d+)(?:\.(\d+))?", image)
    if stock and tuple(int(part or 0) for part in stock.groups()) <= _LAST_VLLM_BEFORE:
        return 2, 20
    return None


def _interface(user: User) -> Iterator[Finding]:
    """K8: NCCL_SOCKET_IFNAME takes prefixes unless told otherwise, and the interface must be there."""
    template = user.template
    interface = template.env.get("NCCL_SOCKET_IFNAME", "")
    path = template.at("env.NCCL_SOCKET_IFNAME")
    corrected = corrections.variables(template, {"NCCL_SOCKET_IFNAME": "=eth0"})
    if interface and not interface.startswith(("=", "^")):
        message = "taken as a prefix (net1 also means net10), and only for NCCL's bootstrap"
        yield template.finding("K8", path, interface, (message, "write =eth0"), corrected)
    elif interface.startswith("=") and user.attachments and not user.host_network:
        absent = [name for name in interface[1:].split(",") if POD_SIDE_NAME.match(name)]
        absent = [name for name in absent if name not in user.interfaces]
        if absent:
            message = f"the pods have no such interface; they have eth0, {', '.join(sorted(user.interfaces))}"
            yield template.finding("K8", path, interface, (message, "write =eth0"), corrected)


def _classes(template: Template) -> Iterator[Finding]:
    """K9 and K11: values that no switch and no NCCL accepts."""
    for code, name, fits, advice, right, remark in (
        ("K9", "NCCL_IB_TC", _TRAFFIC_CLASSES, ("a ToS byte", "write DSCP * 4, from 0 to 252"), "0", _LOSSLESS),
        ("K9", "NCCL_IB_SL", _SERVICE_LEVELS, ("a service level from 0 to 15", "write 0 to 15"), "0", _LEVEL),
        ("K11", "NCCL_IB_QPS_PER_CONNECTION", _QUEUE_PAIRS, ("from 1 to 128", "write 1 to 128"), "1", ""),
    ):
        value = _known(template, name)
        if value is not None and _whole(value) not in fits:
            corrected = corrections.variables(template, {name: right}, remark)
            yield template.finding(code, template.at("env", name), value, (f"not {advice[0]}", advice[1]), corrected)


def _switch_settings(template: Template) -> Iterator[Finding]:
    """K9 and K11, warnings: right or wrong by switches that no manifest shows. NCCL's defaults need none of them."""
    env, path = template.env, template.at("env")
    traffic_class = _whole(env.get("NCCL_IB_TC", "0"))
    level, pairs = _whole(env.get("NCCL_IB_SL", "0")), _whole(env.get("NCCL_IB_QPS_PER_CONNECTION", "1"))
    if traffic_class and traffic_class in _TRAFFIC_CLASSES:
        message = f"DSCP {traffic_class >> 2}; it must be the lossless class of the switches"
        corrected = corrections.variables(template, {"NCCL_IB_TC": "0"}, _LOSSLESS)
        yield template.warning(
            "K9", f"{path}.NCCL_IB_TC", env["NCCL_IB_TC"], (message, "compare with the fabric"), corrected
        )
    if level and level in _SERVICE_LEVELS:
        message = "matters on InfiniBand and VLANs with priorities only"
        corrected = corrections.variables(template, {"NCCL_IB_SL": "0"}, _LEVEL)
        yield template.warning(
            "K9", f"{path}.NCCL_IB_SL", env["NCCL_IB_SL"], (message, "compare with the fabric"), corrected
        )
    if pairs in _QUEUE_PAIRS and pairs != 1:
        advice = ("spreads load over paths; 1 is the default", "measure with ib_write_bw -q 1 and with this number")
        name = "NCCL_IB_QPS_PER_CONNECTION"
        yield template.warning("K11", f"{path}.{name}", env[name], advice, corrections.variables(template, {name: "1"}))


def _known(template: Template, name: str, default: str | None = None) -> str | None:
    """A variable's value; None where it comes from elsewhere, ``default`` where it is not set."""
    for entry in mappings(template.container.get("env")):
        if entry.get("name") == name:
            return None if entry.get("valueFrom") else text(entry.get("value"))
    return default


def _whole(value: str) -> int:
    """The number, -1 for what is none."""
    return int(value) if re.fullmatch(r"[0-9]{1,9}", value) else -1


def _names_the_transport(subsystems: str) -> bool:
    """Whether INIT and NET are among them; with ^ the list says what is left out."""
    names: Mapping[str, None] = dict.fromkeys(subsystems.removeprefix("^").upper().split(","))
    if subsystems.startswith("^"):
        return not {"INIT", "NET", "ALL"} & names.keys()
    return "ALL" in names or {"INIT", "NET"} <= names.keys()
