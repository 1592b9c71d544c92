"""The defects of RDMA settings that a manifest shows before anything runs: K0 to K11.

A wrong setting rarely fails at once: NCCL falls back to sockets silently, or fails minutes later on one node.
"""

from __future__ import annotations

from collections.abc import Sequence

from llm_rollout.fabric.linting import networks, pairings, pods, settings
from llm_rollout.fabric.linting.users import in_pods, users_of
from llm_rollout.manifests.findings import Finding, is_env_block
from llm_rollout.ports import Manifest


def lint(manifests: Sequence[Manifest]) -> list[Finding]:
    """Everything that is wrong with the RDMA settings of these manifests taken together, and what may be (warnings).

    Give the cluster's Node objects too, and the device's name is compared with what they offer; DeviceClasses,
    ResourceClaims and ResourceClaimTemplates, and what pods claim is followed. Manifests of any shape are taken.
    """
    users = users_of(manifests)
    placed = in_pods(users)
    findings = [finding for network in networks.networks_of(manifests) for finding in networks.defects(network)]
    for user in users:
        findings += settings.defects(user)
        if is_env_block(user.template.manifest):
            findings.append(settings.stray(user.template, placed))
        else:
            findings += [*pods.defects(user, manifests), *settings.visibility(user), *pairings.doubt(user)]
    return list(dict.fromkeys([*findings, *pods.one_sided(placed)]))


def recognised(manifests: Sequence[Manifest]) -> dict[str, str]:
    """For each manifest whose pods use a documented pairing of RDMA device and network: KIND/NAME and which one.

    What attaches networks that are not among ``manifests`` is not told.
    """
    return dict(pairings.recognised(in_pods(users_of(manifests))))
