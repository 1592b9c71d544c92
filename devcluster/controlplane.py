"""The programs of the cluster: how each is called, and when it counts as up."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from devcluster import traefik
from devcluster.layout import (
    API_PORT,
    ETCD_PORT,
    GATEWAY_PORT,
    HUB_PORT,
    KUBELET_PORT,
    REPOSITORY,
    ROOT_ADDRESS,
    SERVICE_NETWORK,
    WEBHOOK_PORT,
    Layout,
    node_address,
)
from devcluster.pki import ISSUER, SERVICE_ACCOUNT

ETCD_URL = f"http://{ROOT_ADDRESS}:{ETCD_PORT}"
ETCD_PEER_URL = f"http://{ROOT_ADDRESS}:{ETCD_PORT + 1}"
NODE_GRACE = "24s"
"""A silent node turns NotReady after this. Clusters have 40 to 50 s; half of it keeps trials of node failures short
while six lost heartbeats in a row still cannot come from a busy machine."""


@dataclass(frozen=True)
class Component:
    """One program of the cluster; it is up as soon as ``port`` accepts connections."""

    name: str
    argv: tuple[str, ...]
    port: tuple[str, int] | None = None
    env: Mapping[str, str] = field(default_factory=dict)


def etcd(layout: Layout, programs: Path) -> Component:
    """The store, without syncing to disk: the cluster does not outlive its machine anyway."""
    flags = {
        "name": "devcluster",
        "data-dir": layout.etcd,
        "listen-client-urls": ETCD_URL,
        "advertise-client-urls": ETCD_URL,
        "listen-peer-urls": ETCD_PEER_URL,
        "initial-advertise-peer-urls": ETCD_PEER_URL,
        "initial-cluster": f"devcluster={ETCD_PEER_URL}",
        "unsafe-no-fsync": "true",
        "log-level": "warn",
    }
    return Component("etcd", _call(programs / "etcd", flags), (ROOT_ADDRESS, ETCD_PORT))


def api_server(layout: Layout, programs: Path) -> Component:
    """The API server with RBAC, token and certificate authentication."""
    flags = {
        "etcd-servers": ETCD_URL,
        "bind-address": ROOT_ADDRESS,
        "advertise-address": ROOT_ADDRESS,
        "secure-port": API_PORT,
        "service-cluster-ip-range": SERVICE_NETWORK,
        "tls-cert-file": layout.certificate("apiserver"),
        "tls-private-key-file": layout.key("apiserver"),
        "client-ca-file": layout.certificate("ca"),
        "kubelet-certificate-authority": layout.certificate("ca"),
        "kubelet-client-certificate": layout.certificate("kubelet-client"),
        "kubelet-client-key": layout.key("kubelet-client"),
        "kubelet-preferred-address-types": "InternalIP",
        "service-account-key-file": layout.pki / f"{SERVICE_ACCOUNT}.pub",
        "service-account-signing-key-file": layout.key(SERVICE_ACCOUNT),
        "service-account-issuer": ISSUER,
        "authorization-mode": "RBAC",
        "token-auth-file": layout.pki / "tokens.csv",
        "allow-privileged": "true",
        "profiling": "false",
    }
    return Component("kube-apiserver", _call(programs / "kube-apiserver", flags), (ROOT_ADDRESS, API_PORT))


def controller_manager(layout: Layout, programs: Path) -> Component:
    """All controllers."""
    flags = {
        "kubeconfig": layout.inside_kubeconfig,
        "service-account-private-key-file": layout.key(SERVICE_ACCOUNT),
        "root-ca-file": layout.certificate("ca"),
        "bind-address": ROOT_ADDRESS,
        "leader-elect": "false",
        "node-monitor-grace-period": NODE_GRACE,
        "node-monitor-period": "2s",
        # The defaults (20 a second) make controllers wait for themselves.
        "kube-api-qps": 200,
        "kube-api-burst": 400,
    }
    argv = _call(programs / "kube-controller-manager", flags)
    return Component("kube-controller-manager", argv, (ROOT_ADDRESS, 10257))


def scheduler(layout: Layout, programs: Path) -> Component:
    """The default scheduler."""
    flags = {"kubeconfig": layout.inside_kubeconfig, "bind-address": ROOT_ADDRESS, "leader-elect": "false"}
    return Component("kube-scheduler", _call(programs / "kube-scheduler", flags), (ROOT_ADDRESS, 10259))


def lws(layout: Layout, programs: Path) -> Component:
    """The LeaderWorkerSet controller with its webhooks."""
    config = layout.home / "inside" / "lws.yaml"
    config.write_text(yaml.safe_dump(_lws_config(layout)))
    env = {"KUBECONFIG": str(layout.inside_kubeconfig)}
    return Component("lws", _call(programs / "lws", {"config": config}), (ROOT_ADDRESS, WEBHOOK_PORT), env)


def _lws_config(layout: Layout) -> dict[str, Any]:
    return {
        "apiVersion": "config.lws.x-k8s.io/v1alpha1",
        "kind": "Configuration",
        "leaderElection": {"leaderElect": False},
        "webhook": {
            "host": ROOT_ADDRESS,
            "port": WEBHOOK_PORT,
            "certDir": str(layout.certificate("webhook/tls").parent),
        },
        "health": {"healthProbeBindAddress": f"{ROOT_ADDRESS}:8081"},
        "metrics": {"bindAddress": "0"},
        "internalCertManagement": {"enable": False},
        "clientConnection": {"qps": 200, "burst": 400},
    }


def node_agent(layout: Layout) -> Component:
    """The kubelet of all nodes."""
    return _python("node-agent", "devcluster.node", layout, port=(node_address("node-1"), KUBELET_PORT))


def hub(layout: Layout) -> Component:
    """The model hub."""
    listen = ("--listen", f"{ROOT_ADDRESS}:{HUB_PORT}")
    return _python("hub", "devcluster.hub", layout, *listen, port=(ROOT_ADDRESS, HUB_PORT))


def services(layout: Layout) -> Component:
    """The Service forwarder; it has no port of its own."""
    return _python("services", "devcluster.services", layout)


def gateway(layout: Layout) -> Component:
    """The stand-in of a Gateway API implementation, or the program that takes its place."""
    instead = os.environ.get(traefik.VARIABLE)
    if instead:
        return Component("gateway", _call(Path(instead), traefik.flags(layout)), (ROOT_ADDRESS, GATEWAY_PORT))
    return _python("gateway", "devcluster.gateway", layout, port=(ROOT_ADDRESS, GATEWAY_PORT))


def _python(name: str, module: str, layout: Layout, *args: str, port: tuple[str, int] | None = None) -> Component:
    argv = (sys.executable, "-m", module, "--home", str(layout.home), *args)
    return Component(name, argv, port, {"PYTHONPATH": python_path(), "PYTHONUNBUFFERED": "1"})


def python_path() -> str:
    """Where children find the project's packages, before whatever the caller uses."""
    own = (str(REPOSITORY), str(REPOSITORY / "include"), *os.environ.get("PYTHONPATH", "").split(os.pathsep))
    return os.pathsep.join(dict.fromkeys(path for path in own if path))


def _call(program: Path, flags: Mapping[str, Any]) -> tuple[str, ...]:
    return (str(program), *(f"--{name}={value}" for name, value in flags.items()))
