"""What the answers of an API server become."""

import socket

import pytest

from llm_rollout import kinds
from llm_rollout.adapters import kube
from llm_rollout.adapters.kube import KubeAccess, KubeCluster, KubePodLogs
from llm_rollout.errors import Conflict, Permanent, Transient

CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "chat", "namespace": "default"}}
UNKNOWN = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "chat", "namespace": "default"}}
NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}}


def refusal(status, message, **further):
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "message": message, **further}


FOREIGN = {"details": {"causes": [{"reason": "FieldManagerConflict", "field": ".data.a"}]}}


@pytest.fixture
def cluster(api_client):
    return KubeCluster(api_client)


@pytest.fixture
def logs(api_client):
    return KubePodLogs(api_client)


@pytest.fixture
def access(api_client):
    return KubeAccess(api_client)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(kube, "TIMEOUT_SECONDS", 0.1)


CALLS = {
    "get": lambda cluster: cluster.get(kinds.CONFIG_MAP, "default", "chat"),
    "list": lambda cluster: cluster.list(kinds.CONFIG_MAP, "default"),
    "apply": lambda cluster: cluster.apply(CONFIG),
    "create": lambda cluster: cluster.create(CONFIG),
    "replace": lambda cluster: cluster.replace(CONFIG),
    "delete": lambda cluster: cluster.delete(kinds.CONFIG_MAP, "default", "chat", "uid"),
}
ABSENT = {"get": None, "list": [], "delete": None}
"""What calls answer for an object or a kind that is not there."""
STATUSES = {
    400: kube.BadRequest,
    401: Permanent,
    403: Permanent,
    405: Permanent,
    410: Permanent,
    422: Permanent,
    429: Transient,
    500: Transient,
    502: Transient,
    503: Transient,
    504: Transient,
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", STATUSES)
def test_a_status_means_the_same_in_every_call(stub, cluster, status, call):
    stub.answer(status, refusal(status, "because of this"))

    with pytest.raises(STATUSES[status]) as raised:
        CALLS[call](cluster)

    assert isinstance(raised.value, Permanent) is not isinstance(raised.value, Transient)
    assert not isinstance(raised.value, (Conflict, kube.NotFound))


@pytest.mark.parametrize("call", CALLS)
def test_what_is_not_there_is_an_answer_for_readers_and_a_refusal_for_writers(stub, cluster, call):
    stub.answer(404, refusal(404, "configmaps not found"))

    if call in ABSENT:
        assert CALLS[call](cluster) == ABSENT[call]
    else:
        with pytest.raises(Permanent, match="configmaps not found"):
            CALLS[call](cluster)


@pytest.mark.parametrize("call", ["create", "replace", "apply"])
def test_somebody_who_wrote_first_is_a_conflict(stub, cluster, call):
    stub.answer(409, refusal(409, "the object has been modified", reason="Conflict"))

    with pytest.raises(Conflict, match="the object has been modified"):
        CALLS[call](cluster)


def test_a_foreign_field_cannot_be_applied_however_often(stub, cluster):
    stub.answer(409, refusal(409, 'conflict with "kubectl": .data.a', reason="Conflict", **FOREIGN))

    with pytest.raises(Permanent, match=r'ConfigMap default/chat: .*"kubectl": \.data\.a'):
        cluster.apply(CONFIG)


def test_deleting_what_has_another_uid_by_now_deletes_nothing_and_is_fine(stub, cluster):
    stub.answer(409, refusal(409, "the UID in the precondition does not match"))

    cluster.delete(kinds.CONFIG_MAP, "default", "chat", "old")

    assert stub.asked[-1].body["preconditions"] == {"uid": "old"}
    assert stub.asked[-1].body["propagationPolicy"] == "Foreground"


@pytest.mark.parametrize("status", [*STATUSES, 404, 409])
@pytest.mark.parametrize("call", CALLS)
def test_no_text_shows_the_token_although_a_page_in_between_does(stub, cluster, token, status, call):
    stub.answer(status, f"<pre>{status}: Authorization: Bearer {token}</pre>", content_type="text/html")

    told = texts_of(CALLS[call], cluster)

    assert stub.asked[-1].headers["Authorization"] == f"Bearer {token}"
    assert token not in told
    assert told or status in {404, 409}


def texts_of(call, cluster):
    """What is raised, with the chain that a log would show."""
    told, error = "", None
    try:
        call(cluster)
    except (Permanent, Transient) as raised:
        error = raised
    while error is not None:
        told += str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return told


def test_an_unknown_identity_is_told_in_our_words_only(stub, cluster, token):
    stub.answer(401, refusal(401, f"the token {token} has expired"))

    with pytest.raises(Permanent, match="does not know this identity: check the Kubernetes connection") as raised:
        CALLS["get"](cluster)

    assert token not in str(raised.value)


def test_a_missing_right_is_named_with_where_to_grant_it(stub, cluster):
    stub.answer(403, refusal(403, 'User "airflow" cannot patch resource "configmaps"'))

    with pytest.raises(Permanent, match=r'cannot patch resource "configmaps": grant it in deploy/rbac\.yaml'):
        CALLS["apply"](cluster)


def test_an_invalid_object_is_refused_with_its_field(stub, cluster):
    stub.answer(422, refusal(422, "spec.replicas: Invalid value: -1"))

    with pytest.raises(Permanent, match=r"PATCH .*/configmaps/chat: .*422: spec\.replicas: Invalid value: -1"):
        CALLS["apply"](cluster)


@pytest.mark.parametrize("call", sorted(CALLS.keys() - {"delete"}))
@pytest.mark.parametrize("body", ["<html>Sign in</html>", "[]", "", '{"items": ['])
def test_a_page_in_place_of_an_object_is_no_answer(stub, cluster, call, body):
    stub.answer(200, body)

    with pytest.raises(Transient, match="no JSON object"):
        CALLS[call](cluster)


def test_a_refusal_that_is_no_text_comes_from_in_between(stub, cluster):
    stub.play = lambda handler: handler.reply(502, b"\xff\xfe", "text/html")

    with pytest.raises(Transient, match="something between here and the API server refused GET"):
        CALLS["get"](cluster)


@pytest.mark.parametrize("call", CALLS)
def test_nobody_listening_is_transient(api_client, call):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can be given this port
        api_client.configuration.host = f"http://127.0.0.1:{taken.getsockname()[1]}"

        with pytest.raises(Transient, match="did not answer"):
            CALLS[call](KubeCluster(api_client))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("call", CALLS)
def test_a_server_that_says_nothing_is_given_up(stub, cluster, call):
    stub.play = stub.hold

    with pytest.raises(Transient, match="did not answer"):
        CALLS[call](cluster)


def test_an_answer_that_breaks_off_is_transient(stub, cluster):
    def half(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"metadata":')
        handler.cut()

    stub.play = half

    with pytest.raises(Transient, match="did not answer GET"):
        CALLS["get"](cluster)


@pytest.mark.parametrize(
    ("kind", "namespace", "labels", "path"),
    [
        (kinds.POD, "default", None, "/api/v1/namespaces/default/pods"),
        (kinds.POD, "", None, "/api/v1/pods"),
        (kinds.NODE, "ignored", None, "/api/v1/nodes"),
        (kinds.LEASE, "default", None, "/apis/coordination.k8s.io/v1/namespaces/default/leases"),
        (kinds.POD, "default", {"a": "b", "c": "d"}, "/api/v1/namespaces/default/pods?labelSelector=a%3Db%2Cc%3Dd"),
    ],
)
def test_a_list_is_asked_for_where_it_is(stub, cluster, kind, namespace, labels, path):
    stub.answer(200, {"items": None})

    assert cluster.list(kind, namespace, labels) == []
    assert stub.asked[-1].path == path


def test_items_of_a_list_say_what_they_are(stub, cluster):
    stub.answer(200, {"kind": "NodeList", "items": [{"metadata": {"name": "node-1"}}]})

    assert cluster.list(kinds.NODE, "") == [NODE]


def test_a_kind_that_no_step_writes_is_refused_before_anything_is_asked(stub, cluster):
    with pytest.raises(Permanent, match="v1 Secret is not among the kinds"):
        cluster.apply(UNKNOWN)

    assert stub.asked == []


@pytest.mark.parametrize("status", [400, 404])
def test_a_container_that_has_not_begun_has_no_log(stub, logs, status):
    stub.answer(status, refusal(status, 'container "vllm" in pod "chat-0" is waiting to start'))

    assert logs.tail("default", "chat-0", "vllm", 5) == ""


@pytest.mark.parametrize(("status", "expected"), [(401, Permanent), (403, Permanent), (500, Transient)])
def test_a_log_that_may_not_be_read_is_no_empty_log(stub, logs, status, expected):
    stub.answer(status, refusal(status, "pods/log"))

    with pytest.raises(expected):
        logs.tail("default", "chat-0", "vllm", 5)


def test_a_log_is_asked_for_by_its_last_lines_and_read_whatever_bytes_it_has(stub, logs):
    stub.play = lambda handler: handler.reply(200, b"ready \xff\n", "text/plain")

    assert logs.tail("default", "chat-0", "vllm", 5, previous=True) == "ready \N{REPLACEMENT CHARACTER}\n"
    assert stub.asked[-1].path.endswith("/pods/chat-0/log?container=vllm&tailLines=5&previous=true")


def test_a_log_with_its_times_is_asked_for_as_such(stub, logs):
    stub.play = lambda handler: handler.reply(200, b"2026-11-24T10:00:00.1Z ready\n", "text/plain")

    assert logs.stamped("default", "chat-0", "vllm", 5) == "2026-11-24T10:00:00.1Z ready\n"
    assert stub.asked[-1].path.endswith("?container=vllm&tailLines=5&previous=false&timestamps=true")


@pytest.mark.parametrize(("status", "expected"), [({"allowed": True}, True), ({"allowed": False}, False), ({}, False)])
def test_only_a_clear_yes_allows(stub, access, status, expected):
    stub.answer(201, {"status": status})

    assert access.may("get", kinds.POD, "default", "log") is expected
    assert stub.asked[-1].body["spec"]["resourceAttributes"] == {
        "verb": "get", "group": "", "resource": "pods", "subresource": "log", "namespace": "default",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, {"resources": [{"name": "leaderworkersets"}]}, True),
        (200, {"resources": [{"name": "others"}]}, False),
        (404, refusal(404, "not found"), False),
    ],
)
def test_a_kind_is_served_when_discovery_lists_it(stub, access, status, body, expected):
    stub.answer(status, body)

    assert access.serves(kinds.LEADER_WORKER_SET) is expected
    assert stub.asked[-1].path == "/apis/leaderworkerset.x-k8s.io/v1"
