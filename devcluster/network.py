"""The cluster's network: one namespace with a bridge, the nodes' addresses on it, and the Service range."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from devcluster.layout import BRIDGE, NETWORK, ROOT_ADDRESS, SERVICE_NETWORK, node_address


def set_up(nodes: Sequence[str]) -> None:
    """Make the bridge and the addresses; must run inside the new network namespace.

    The whole Service range is local (a route instead of an address per Service), so a listener may bind any
    ClusterIP at once, and a connection to one without a listener is refused at once.
    """
    commands = [
        "link set lo up",
        f"link add {BRIDGE} type bridge forward_delay 0",
        f"address add {ROOT_ADDRESS}/{NETWORK.prefixlen} dev {BRIDGE}",
        *(f"address add {node_address(node)}/32 dev {BRIDGE}" for node in nodes),
        f"link set {BRIDGE} up",
        f"route add local {SERVICE_NETWORK} dev lo",
    ]
    subprocess.run(["ip", "-batch", "-"], input="\n".join(commands), text=True, check=True)
