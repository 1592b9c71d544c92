"""The devcluster's certificate authority, everything it signs, and the two kubeconfigs."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from devcluster.layout import API_URL, ROOT_ADDRESS, SERVICE_NETWORK, Layout, node_address

LIFETIME = dt.timedelta(days=365)
SERVICE_ACCOUNT = "service-account"
ISSUER = "https://kubernetes.default.svc.cluster.local"


def issue(layout: Layout, nodes: Sequence[str]) -> None:
    """Write a new authority, the serving and client certificates, the service account keys and the admin's token."""
    authority = Authority.create()
    layout.pki.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority.write(layout, "ca")
    names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    addresses = ["127.0.0.1", ROOT_ADDRESS, str(SERVICE_NETWORK.network_address + 1)]
    authority.sign("kube-apiserver", names, addresses).write(layout, "apiserver")
    authority.sign("kubelet", nodes, [node_address(node) for node in nodes]).write(layout, "kubelet")
    authority.sign("kube-apiserver-kubelet-client").write(layout, "kubelet-client")
    authority.sign("lws-webhook", ["localhost"], [ROOT_ADDRESS]).write(layout, "webhook/tls")
    _write_service_account_keys(layout)
    _write_private(layout.pki / "tokens.csv", f"{secrets.token_hex(24)},admin,admin,system:masters\n".encode())


def write_kubeconfig(layout: Layout, path: Path, server: str) -> None:
    """The admin's kubeconfig for one address of the API server."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cluster = {"server": server, "certificate-authority-data": _base64(layout.certificate("ca"))}
    token = (layout.pki / "tokens.csv").read_text().split(",")[0]
    value: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "devcluster", "cluster": cluster}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "devcluster", "context": {"cluster": "devcluster", "user": "admin"}}],
        "current-context": "devcluster",
    }
    _write_private(path, yaml.safe_dump(value, sort_keys=False).encode())


def write_kubeconfigs(layout: Layout, outside_port: int) -> None:
    """One for this machine, one for the cluster's own network."""
    write_kubeconfig(layout, layout.kubeconfig, f"https://127.0.0.1:{outside_port}")
    write_kubeconfig(layout, layout.inside_kubeconfig, API_URL)


class Authority:
    """A certificate with its key, able to sign others."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def create(cls) -> Authority:
        """A new self-signed authority."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("devcluster-ca")
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = (
            _builder(name, name, key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(identifier, critical=False)
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    def sign(self, name: str, hosts: Sequence[str] = (), addresses: Sequence[str] = ()) -> Authority:
        """A certificate for serving at these names and addresses and for being a client called ``name``."""
        key = ec.generate_private_key(ec.SECP256R1())
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            _builder(_name(name), self._certificate.subject, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(issuer, critical=False)
        )
        alternatives: list[x509.GeneralName] = [x509.DNSName(host) for host in hosts]
        alternatives += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return Authority(builder.sign(self._key, hashes.SHA256()), key)

    def write(self, layout: Layout, name: str) -> None:
        """Write ``<name>.crt`` and ``<name>.key`` below the pki folder."""
        layout.certificate(name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        layout.certificate(name).write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        _write_private(layout.key(name), _private_pem(self._key))


def _write_service_account_keys(layout: Layout) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    _write_private(layout.key(SERVICE_ACCOUNT), _private_pem(key))
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (layout.pki / f"{SERVICE_ACCOUNT}.pub").write_bytes(public)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A clock that was just set back must not make the new cluster unreachable.
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _write_private(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
