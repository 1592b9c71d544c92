from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from devcluster.api import Api, ApiError
from devcluster.layout import Layout
from devcluster.node.environment import ConfigError, Resolver, argv, expand

OBJECTS = {
    "configmaps/settings": {"data": {"MODE": "fast", "file.txt": "text"}, "binaryData": {"raw": "AAE="}},
    "secrets/token": {"data": {"key": base64.b64encode(b"s3cret").decode()}},
}


class Objects:
    """Of an API server only the reading of one namespace."""

    def __init__(self, status: int = httpx.codes.NOT_FOUND) -> None:
        self._status = status

    async def get(self, path: str) -> Any:
        found = OBJECTS.get(path.removeprefix("/api/v1/namespaces/default/"))
        if found is None:
            raise ApiError(self._status, "refused")
        return found


def pod(**spec: Any) -> dict[str, Any]:
    metadata = {"name": "llama-0-1", "namespace": "default", "uid": "u1", "labels": {"role": "worker"}}
    metadata |= {"annotations": {"note": "hello"}}
    return {"metadata": metadata, "spec": {"nodeName": "node-3", **spec}}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def resolver(layout: Layout, manifest: dict[str, Any] | None = None, status: int = 404) -> Resolver:
    return Resolver(cast("Api", Objects(status)), layout, manifest or pod(), "10.64.1.7")


def environment(layout: Layout, *items: dict[str, Any], **container: Any) -> dict[str, str]:
    return asyncio.run(resolver(layout).environment({"env": list(items), **container}))


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)", "x1y2"),
        ("$(NONE)", "$(NONE)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A ${A} $", "$A ${A} $"),
        ("$(", "$("),
    ],
)
def test_references_are_replaced_as_kubernetes_does(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == expanded


def test_the_command_line_is_command_and_arguments_with_their_references() -> None:
    container = {"command": ["sh", "-c"], "args": ["echo $(A)"]}
    assert argv(container, {"A": "1"}) == ["sh", "-c", "echo 1"]


def test_a_container_without_a_command_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match="set command for main"):
        argv({"name": "main", "image": "vllm/vllm-openai:v1", "args": ["serve"]}, {})


def test_later_variables_see_earlier_ones(layout: Layout) -> None:
    env = environment(layout, {"name": "A", "value": "1"}, {"name": "B", "value": "$(A)2"}, {"name": "C"})
    assert (env["B"], env["C"]) == ("12", "")


def test_the_pods_own_variables_win_over_the_agents(layout: Layout) -> None:
    assert environment(layout)["HOME"] == "/root"
    assert environment(layout, {"name": "HOME", "value": "/data"})["HOME"] == "/data"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "llama-0-1"),
        ("metadata.labels['role']", "worker"),
        ("metadata.annotations['note']", "hello"),
        ("metadata.labels['none']", ""),
        ("spec.nodeName", "node-3"),
        ("status.podIP", "10.64.1.7"),
        ("status.hostIP", "10.64.0.13"),
    ],
)
def test_fields_of_the_pod_become_variables(layout: Layout, path: str, value: str) -> None:
    assert environment(layout, {"name": "X", "valueFrom": {"fieldRef": {"fieldPath": path}}})["X"] == value


def reference(kind: str, name: str, key: str, **more: Any) -> dict[str, Any]:
    return {"name": "X", "valueFrom": {kind: {"name": name, "key": key, **more}}}


def test_keys_of_configmaps_and_secrets_become_variables(layout: Layout) -> None:
    assert environment(layout, reference("configMapKeyRef", "settings", "MODE"))["X"] == "fast"
    assert environment(layout, reference("secretKeyRef", "token", "key"))["X"] == "s3cret"


def test_whole_configmaps_become_variables_with_a_prefix(layout: Layout) -> None:
    env = environment(layout, envFrom=[{"prefix": "P_", "configMapRef": {"name": "settings"}}])
    assert env["P_MODE"] == "fast"


@pytest.mark.parametrize("name", ["settings", "none"])
def test_what_is_optional_may_be_missing(layout: Layout, name: str) -> None:
    assert "X" not in environment(layout, reference("configMapKeyRef", name, "NONE", optional=True))


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (reference("configMapKeyRef", "settings", "NONE"), "couldn't find key NONE in configMap settings"),
        (reference("secretKeyRef", "none", "key"), 'secret "none" not found'),
        ({"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "spec.none"}}}, "spec.none is not known"),
        ({"name": "X", "valueFrom": {"resourceFieldRef": {"resource": "cpu"}}}, "resourceFieldRef is not known"),
    ],
)
def test_what_cannot_be_resolved_is_named(layout: Layout, item: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        environment(layout, item)


def test_a_refusal_of_the_api_server_is_not_called_missing(layout: Layout) -> None:
    item = reference("secretKeyRef", "none", "key", optional=True)
    with pytest.raises(ConfigError, match="HTTP 403"):
        asyncio.run(resolver(layout, status=403).environment({"env": [item]}))


def mounts(layout: Layout, volume: dict[str, Any], **mount: Any) -> dict[str, tuple[Path, bool]]:
    found = resolver(layout, pod(volumes=[{"name": "v", **volume}]))
    container = {"volumeMounts": [{"name": "v", "mountPath": "/v", **mount}]}
    return {item.target: (item.source, item.read_only) for item in asyncio.run(found.mounts(container))}


def test_a_claim_is_the_same_folder_for_every_pod_and_waits_for_its_volume(layout: Layout) -> None:
    volume = {"persistentVolumeClaim": {"claimName": "models"}}
    with pytest.raises(ConfigError, match='"models" not found'):
        mounts(layout, volume)
    folder = layout.volume("default", "models")
    folder.mkdir(parents=True)
    assert mounts(layout, volume) == {"/v": (folder, False)}
    assert mounts(layout, volume, readOnly=True) == {"/v": (folder, True)}


def test_a_sub_path_is_made_where_it_is_missing(layout: Layout) -> None:
    source, _ = mounts(layout, {"emptyDir": {}}, subPath="a/b")["/v"]
    assert source.parts[-2:] == ("a", "b")
    assert source.is_dir()


def test_a_sub_path_with_variables_is_refused_instead_of_mounting_the_whole_volume(layout: Layout) -> None:
    with pytest.raises(ConfigError, match="subPathExpr"):
        mounts(layout, {"emptyDir": {}}, subPathExpr="$(POD)")


def test_a_configmap_becomes_files_that_cannot_be_written(layout: Layout) -> None:
    source, read_only = mounts(layout, {"configMap": {"name": "settings"}})["/v"]
    assert {path.name: path.read_bytes() for path in source.iterdir()} == {
        "MODE": b"fast",
        "file.txt": b"text",
        "raw": b"\0\1",
    }
    assert read_only


def test_items_choose_keys_and_name_their_files(layout: Layout) -> None:
    volume = {"secret": {"secretName": "token", "items": [{"key": "key", "path": "deep/token"}]}}
    source, _ = mounts(layout, volume)["/v"]
    assert (source / "deep/token").read_text() == "s3cret"


def test_projected_sources_share_one_folder(layout: Layout) -> None:
    fields = [{"path": "role", "fieldRef": {"fieldPath": "metadata.labels['role']"}}]
    sources = [{"configMap": {"name": "settings"}}, {"downwardAPI": {"items": fields}}]
    source, _ = mounts(layout, {"projected": {"sources": sources}})["/v"]
    assert (source / "role").read_text() == "worker"
    assert (source / "MODE").read_text() == "fast"


def test_outer_mounts_come_before_those_inside_them(layout: Layout) -> None:
    found = resolver(layout, pod(volumes=[{"name": "v", "emptyDir": {}}]))
    paths = ["/data/models", "/data"]
    container = {"volumeMounts": [{"name": "v", "mountPath": path} for path in paths]}
    assert [item.target for item in asyncio.run(found.mounts(container))] == ["/data", "/data/models"]
