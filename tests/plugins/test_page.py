from __future__ import annotations

import json
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow import plugins_manager, settings
from airflow.api_fastapi.app import create_app, get_auth_manager, purge_cached_app
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.models import Base, DagModel, import_all_models
from airflow.models.dagbundle import DagBundleModel
from airflow.utils.session import create_session
from fastapi import FastAPI
from fastapi.testclient import TestClient

from llm_rollout import kinds, record
from llm_rollout.names import record_name
from llm_rollout.testing import Simulation
from rollout_airflow import connection, specs
from rollout_airflow.page import reading

from .conftest import ROOT, SPEC

BROWSER = {"accept": "text/html"}
HOSTILE = "<script>alert(1)</script>"
CONNECTION = "AIRFLOW_CONN_KUBERNETES_DEFAULT"
REAL_PORTS = connection.ports
REFUSED = "http://127.0.0.1:1"
"""Nothing listens on port 1."""


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    """Airflow's own application with its own auth manager, a database, and the plugins of this project."""
    patch = pytest.MonkeyPatch()
    patch.setenv("AIRFLOW__CORE__PLUGINS_FOLDER", str(ROOT / "plugins"))
    patch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", "ada:viewer")
    patch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "a key as long as the algorithm asks for, " * 2)
    patch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", f"sqlite:///{tmp_path_factory.mktemp('airflow')}/airflow.db")
    _settle_airflow()
    _fill_database()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # What Airflow warns of itself while it starts is not ours to fix.
        app = create_app(apps="core")
    yield app
    patch.undo()
    _settle_airflow()


def _settle_airflow() -> None:
    """Let Airflow read its settings anew and forget what it made of the earlier ones."""
    purge_cached_app()
    for cached in (plugins_manager._get_plugins, plugins_manager.get_fastapi_plugins, plugins_manager._get_ui_plugins):
        cached.cache_clear()
    settings.dispose_orm(do_log=False)
    settings.configure_vars()
    settings.configure_orm()


def _fill_database() -> None:
    import_all_models()
    Base.metadata.create_all(settings.engine)
    with create_session() as session:
        session.add(DagBundleModel(name="page-tests"))
        session.flush()
        session.add_all(DagModel(dag_id=f"roll_out__{name}", bundle_name="page-tests") for name in ("chat", "other"))


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two specs whose DAGs Airflow knows, and one whose DAG it has not read yet."""
    for name in ("chat", "other", "unparsed"):
        spec = SPEC | {"name": name, "service": {"name": f"{name}-api"}}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(spec))
    monkeypatch.setenv(specs.SPECS, str(tmp_path))
    return tmp_path


@pytest.fixture
def token(airflow: FastAPI) -> str:
    del airflow
    return get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="ada", role="viewer"))


@pytest.fixture
def stranger(airflow: FastAPI, models: Path, world: Simulation) -> TestClient:
    del models, world
    return TestClient(airflow, follow_redirects=False)


@pytest.fixture
def reader(stranger: TestClient, token: str) -> TestClient:
    stranger.headers["Authorization"] = f"Bearer {token}"
    return stranger


def began(world: Simulation, model: str = "chat", run_id: str = "run-1") -> None:
    step = record.StepResult(
        step="stage_weights", verdict="wait", summary=f"{HOSTILE} of {model}", started=time.time() - 60
    )
    record.update(
        world.cluster,
        "default",
        model,
        lambda found: found.opened(run_id, "v2", time.time() - 90).with_step(run_id, step),
    )


@pytest.mark.parametrize("path", ["/rollouts/", "/rollouts/api/models"])
def test_who_has_no_session_gets_401(stranger: TestClient, path: str):
    reply = stranger.get(path)
    assert reply.status_code == 401
    assert "chat" not in reply.text


def test_a_browser_without_a_session_is_led_to_the_login_and_back(stranger: TestClient):
    reply = stranger.get("/rollouts/", headers=BROWSER)
    assert reply.status_code == 307
    assert reply.headers["location"] == "/api/v2/auth/login?next=%2Frollouts%2F"
    assert "next=%2Frollouts%2F" in stranger.get(reply.headers["location"]).headers["location"]


def test_a_forged_token_is_refused(stranger: TestClient, token: str):
    head, body, _ = token.split(".")
    reply = stranger.get("/rollouts/api/models", headers={"Authorization": f"Bearer {head}.{body}.forged"})
    assert reply.status_code == 403


def test_a_browser_whose_cookie_is_no_longer_good_is_led_to_the_login(stranger: TestClient):
    stranger.cookies.set("_token", "a.b.c")
    assert stranger.get("/rollouts/", headers=BROWSER).status_code == 307


@pytest.mark.parametrize("path", ["/rollouts/docs", "/rollouts/openapi.json", "/rollouts/redoc"])
def test_the_application_describes_itself_to_nobody(stranger: TestClient, path: str):
    assert stranger.get(path).status_code == 404


def test_the_session_cookie_opens_the_page(stranger: TestClient, token: str):
    stranger.cookies.set("_token", token)
    reply = stranger.get("/rollouts/", headers=BROWSER)
    assert reply.status_code == 200
    assert "No rollout yet" in reply.text


def test_the_page_shows_the_running_rollout_with_its_texts_escaped(reader: TestClient, world: Simulation):
    began(world)
    text = reader.get("/rollouts/").text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; of chat" in text
    assert HOSTILE not in text
    assert 'href="/dags/roll_out__chat/runs/run-1/tasks/stage_weights"' in text
    assert "<svg" in text


def test_the_json_says_the_same(reader: TestClient, world: Simulation):
    began(world)
    reply = reader.get("/rollouts/api/models")
    chat = next(one for one in reply.json()["models"] if one["name"] == "chat")
    assert chat["running"]["run_id"] == chat["rollouts"][0]["run_id"] == "run-1"
    assert chat["running"]["steps"][0]["step"] == "stage_weights"
    assert (reply.status_code, reply.json()["problem"]) == (200, "")


def test_the_page_may_run_only_its_own_script_and_be_framed_only_by_airflow(reader: TestClient):
    policy = reader.get("/rollouts/").headers["content-security-policy"].split("; ")
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'self'" in policy
    assert "unsafe" not in " ".join(policy)


def test_a_dag_that_a_user_may_not_read_hides_its_model(
    reader: TestClient, world: Simulation, monkeypatch: pytest.MonkeyPatch
):
    began(world, "chat")
    began(world, "other")
    asked = []

    def only_chat(_self: Any, *, method: str, user: Any, details: Any = None, access_entity: Any = None) -> bool:
        asked.append((method, user.username, access_entity))
        return details.id == "roll_out__chat"

    monkeypatch.setattr(SimpleAuthManager, "is_authorized_dag", only_chat)
    page, listed = reader.get("/rollouts/").text, reader.get("/rollouts/api/models")
    assert "other" not in page
    assert "other" not in listed.text
    assert [one["name"] for one in listed.json()["models"]] == ["chat"]
    assert set(asked) == {("GET", "ada", None)}


def test_a_model_whose_dag_airflow_does_not_know_is_not_shown(reader: TestClient):
    names = [one["name"] for one in reader.get("/rollouts/api/models").json()["models"]]
    assert names == ["chat", "other"]


def test_a_user_who_may_read_no_dag_sees_an_empty_page(reader: TestClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(SimpleAuthManager, "is_authorized_dag", lambda *_, **__: False)
    assert "No model to show" in reader.get("/rollouts/").text


def test_a_changed_spec_is_seen(reader: TestClient, models: Path):
    assert "org/chat" in reader.get("/rollouts/").text
    written = SPEC | {"model": {"repo": "org/better-chat", "revision": "v1"}}
    (models / "chat.yaml").write_text(yaml.safe_dump(written))
    assert "org/better-chat" in reader.get("/rollouts/").text


def test_a_record_that_cannot_be_read_is_the_problem_of_its_model_alone(reader: TestClient, world: Simulation):
    metadata = {"name": record_name("chat"), "namespace": "default"}
    world.cluster.create({
        "apiVersion": kinds.CONFIG_MAP.api_version, "kind": kinds.CONFIG_MAP.kind, "metadata": metadata,
        "data": {record.KEY: "{"},
    })  # fmt: skip
    began(world, "other")
    reply = reader.get("/rollouts/api/models").json()
    chat, other = reply["models"]
    assert "llm-rollout-chat" in chat["problem"]
    assert (other["problem"], other["running"]["run_id"], reply["problem"]) == ("", "run-1", "")


def _unreachable(reader: TestClient, *, says: str) -> None:
    page, listed = reader.get("/rollouts/"), reader.get("/rollouts/api/models")
    assert (page.status_code, listed.status_code) == (200, 503)
    for text in (page.text, listed.json()["problem"]):
        assert "kubernetes_default" in text
    assert says in listed.json()["problem"]
    assert [one["name"] for one in listed.json()["models"]] == ["chat", "other"]


@pytest.fixture
def own_connection(reader: TestClient, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """The page with the real way from Airflow's connection to a cluster."""
    monkeypatch.delenv(CONNECTION, raising=False)
    monkeypatch.setattr(connection, "ports", REAL_PORTS)
    return reader


def test_a_missing_connection_is_named_with_its_remedy(own_connection: TestClient):
    _unreachable(own_connection, says="there is no connection kubernetes_default: set AIRFLOW_CONN_KUBERNETES_DEFAULT")


def test_a_cluster_that_refuses_is_named(own_connection: TestClient, monkeypatch: pytest.MonkeyPatch):
    clusters = {"clusters": [{"name": "c", "cluster": {"server": REFUSED}}], "users": [{"name": "u", "user": {}}]}
    contexts = {"contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}], "current-context": "x"}
    _connect(monkeypatch, kube_config=clusters | contexts)
    _unreachable(own_connection, says="Remedy: check that the API server which the connection names is up")


def test_credentials_in_a_kubeconfig_that_cannot_be_parsed_are_not_quoted(
    own_connection: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "kubeconfig").write_text("users: [{token: s3cr3t}\n: :")
    _connect(monkeypatch, kube_config_path=str(tmp_path / "kubeconfig"))
    assert "s3cr3t" not in own_connection.get("/rollouts/").text
    _unreachable(own_connection, says="reading it failed with ")


def _connect(monkeypatch: pytest.MonkeyPatch, **extras: Any) -> None:
    monkeypatch.setenv(CONNECTION, json.dumps({"conn_type": "kubernetes", "extra": extras}))


def test_a_cluster_that_never_answers_is_given_up(
    reader: TestClient, world: Simulation, monkeypatch: pytest.MonkeyPatch
):
    answered = threading.Event()
    monkeypatch.setattr(reading, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(world.cluster, "get", lambda *_: answered.wait(60) and None)
    began_at = time.monotonic()
    try:
        _unreachable(reader, says="it did not answer within")
        assert time.monotonic() - began_at < 20, "two pages; the cluster takes a minute for each"
    finally:
        answered.set()


def test_airflow_loads_the_plugin_and_shows_the_page_in_its_navigation(airflow: FastAPI, token: str):
    client = TestClient(airflow, headers={"Authorization": f"Bearer {token}"})
    plugins, errors = plugins_manager._get_plugins()
    assert errors == {}
    assert [one.name for one in plugins if one.source] == ["llm_rollout"]
    views, _ = plugins_manager._get_ui_plugins()
    view = next(one for one in views if one["name"] == "Rollouts")
    assert (view["destination"], view["url_route"]) == ("nav", "rollouts")
    assert client.get(view["href"], headers=BROWSER).headers["content-security-policy"]
