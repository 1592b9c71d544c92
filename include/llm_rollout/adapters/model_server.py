"""Model servers through the API server's proxy: one address and one identity reach every pod and Service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from llm_rollout.errors import Permanent, Transient
from llm_rollout.ports import Endpoint, Reply

TIMEOUT_SECONDS = 60.0
_NO_BACKEND = (502, 503, 504)
_UNAUTHORIZED, _FORBIDDEN = 401, 403


class ProxiedModelServer:
    """``ports.ModelServer`` for servers inside the cluster."""

    def __init__(self, configuration: Any) -> None:
        """Take address, CA and credentials from ``kubernetes.client.Configuration``."""
        self._configuration = configuration

    def get(self, endpoint: Endpoint, path: str) -> Reply:
        """See ``ports.ModelServer``."""
        return self._request("GET", endpoint, path, None)

    def post(self, endpoint: Endpoint, path: str, body: Mapping[str, Any]) -> Reply:
        """See ``ports.ModelServer``."""
        return self._request("POST", endpoint, path, body)

    def stream(self, endpoint: Endpoint, path: str, body: Mapping[str, Any]) -> Iterator[str]:
        """See ``ports.ModelServer``."""
        try:
            with (
                self._client() as client,
                client.stream("POST", _proxied(endpoint, path), json={**body, "stream": True}) as reply,
            ):
                if reply.status_code != httpx.codes.OK:
                    reply.read()
                    _check(reply, endpoint, path)
                    raise Permanent(f"{endpoint.name} answered {reply.status_code} on {path}: {reply.text[:200]}")
                yield from (line[5:].strip() for line in reply.iter_lines() if line.startswith("data:"))
        except httpx.HTTPError as error:
            raise Transient(f"the stream from {endpoint.name} broke: {type(error).__name__}") from error

    def _request(self, method: str, endpoint: Endpoint, path: str, body: Mapping[str, Any] | None) -> Reply:
        try:
            with self._client() as client:
                reply = client.request(method, _proxied(endpoint, path), json=body)
        except httpx.HTTPError as error:
            raise Transient(f"{endpoint.name} did not answer on {path}: {type(error).__name__}") from error
        _check(reply, endpoint, path)
        return Reply(reply.status_code, _body(reply))

    def _client(self) -> httpx.Client:
        configuration = self._configuration
        token = configuration.get_api_key_with_prefix("authorization") or configuration.get_api_key_with_prefix(
            "BearerToken"
        )
        return httpx.Client(
            base_url=configuration.host,
            verify=self._tls(),
            headers={"Authorization": token} if token else {},
            timeout=TIMEOUT_SECONDS,
            trust_env=False,
        )

    def _tls(self) -> Any:
        import ssl  # noqa: PLC0415 - only a real connection needs it

        configuration = self._configuration
        if not configuration.host.startswith("https"):
            return True
        context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
        if not configuration.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if configuration.cert_file:
            context.load_cert_chain(configuration.cert_file, configuration.key_file)
        return context


def _proxied(endpoint: Endpoint, path: str) -> str:
    root = f"/api/v1/namespaces/{endpoint.namespace}/{endpoint.resource}/{endpoint.name}:{endpoint.port}/proxy"
    return root + path


def _check(reply: httpx.Response, endpoint: Endpoint, path: str) -> None:
    """Tell what the proxy says from what the model server says: the proxy answers with a Status object."""
    body = _body(reply)
    from_proxy = isinstance(body, dict) and body.get("kind") == "Status"
    if reply.status_code in _NO_BACKEND and (from_proxy or not isinstance(body, dict)):
        raise Transient(f"{endpoint.name} is not reached on {path}: the proxy answered {reply.status_code}")
    if from_proxy and reply.status_code == _UNAUTHORIZED:
        raise Permanent("the API server does not know this identity: check the Kubernetes connection")
    if from_proxy and reply.status_code == _FORBIDDEN:
        raise Permanent(f"{body['message']}: grant {endpoint.resource}/proxy in deploy/rbac.yaml and apply that")


def _body(reply: httpx.Response) -> Any:
    try:
        return reply.json()
    except ValueError:
        return reply.text
