"""What only a real API server can show: who owns a field, which version is meant, which object is deleted."""

from contextlib import contextmanager

import pytest
from kubernetes import client

from llm_rollout import kinds, names
from llm_rollout.adapters.kube import KubeAccess, KubeCluster, KubePodLogs
from llm_rollout.errors import Conflict, Permanent, Transient
from llm_rollout.ports import Kind

pytestmark = pytest.mark.devcluster

NAMESPACE = "default"
NOTHING = Kind("example.org/v1", "Nothing", "nothings")
SPEAKER = "import time; print('one'); print('two'); print('three', flush=True); time.sleep(600)"


def config_map(name, **data):
    return {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": NAMESPACE}, "data": data,
    }  # fmt: skip


def data_of(kube, name):
    return kube.get(kinds.CONFIG_MAP, NAMESPACE, name)["data"]


def by_kubectl(core, name, **data):
    """Created by somebody else, with another field manager."""
    core.create_namespaced_config_map(NAMESPACE, config_map(name, **data), field_manager="kubectl")


def test_apply_creates_under_our_name_and_again_changes_nothing(kube, name):
    created = kube.apply(config_map(name, a="1"))
    again = kube.apply(config_map(name, a="1"))

    assert [field["manager"] for field in created["metadata"]["managedFields"]] == [names.FIELD_MANAGER]
    assert again["metadata"]["resourceVersion"] == created["metadata"]["resourceVersion"]


def test_apply_takes_back_what_it_no_longer_says(kube, name):
    kube.apply(config_map(name, a="1", b="2"))
    kube.apply(config_map(name, a="1"))

    assert data_of(kube, name) == {"a": "1"}


def test_apply_adopts_what_somebody_else_created_and_keeps_their_fields(kube, core, name):
    by_kubectl(core, name, theirs="1", shared="2")

    kube.apply(config_map(name, ours="3", shared="2"))

    assert data_of(kube, name) == {"theirs": "1", "shared": "2", "ours": "3"}


def test_apply_refuses_to_change_a_foreign_field_and_says_whose_it_is(kube, core, name):
    by_kubectl(core, name, theirs="1")

    with pytest.raises(Permanent, match=rf'field of ConfigMap {NAMESPACE}/{name}: .*"kubectl".*\.data\.theirs'):
        kube.apply(config_map(name, theirs="2", ours="3"))

    assert data_of(kube, name) == {"theirs": "1"}


def test_an_object_that_the_schema_refuses_is_permanent_with_its_field(kube, name):
    with pytest.raises(Permanent, match=r"data|Data"):
        kube.apply({**config_map(name), "data": {"not a key": "1"}})

    assert kube.get(kinds.CONFIG_MAP, NAMESPACE, name) is None


def test_create_meets_what_exists(kube, name):
    kube.create(config_map(name, a="1"))

    with pytest.raises(Conflict, match="already exists"):
        kube.create(config_map(name, a="2"))

    assert data_of(kube, name) == {"a": "1"}


def test_replace_counts_only_at_the_version_that_was_read(kube, name):
    first = kube.create(config_map(name, a="1"))
    second = kube.replace({**first, "data": {"a": "2"}})

    with pytest.raises(Conflict, match="the object has been modified"):
        kube.replace({**first, "data": {"a": "stale"}})

    assert data_of(kube, name) == {"a": "2"}
    assert kube.replace({**second, "data": {"a": "3"}})["data"] == {"a": "3"}


def test_delete_means_one_object_and_not_its_name(cluster, kube, name):
    old = kube.create(config_map(name, a="old"))["metadata"]["uid"]
    kube.delete(kinds.CONFIG_MAP, NAMESPACE, name, old)
    cluster.wait(lambda: kube.get(kinds.CONFIG_MAP, NAMESPACE, name) is None, 20, "the first one is gone")
    kube.create(config_map(name, a="new"))

    kube.delete(kinds.CONFIG_MAP, NAMESPACE, name, old)

    newer = kube.get(kinds.CONFIG_MAP, NAMESPACE, name)
    assert newer["data"] == {"a": "new"}
    assert "deletionTimestamp" not in newer["metadata"]


def test_deleting_what_is_gone_is_fine(kube, name):
    kube.delete(kinds.CONFIG_MAP, NAMESPACE, name, "00000000-0000-0000-0000-000000000000")


def test_an_owner_is_gone_only_after_what_it_owns(cluster, kube, name):
    owner = kube.create(config_map(name))
    reference = {
        "apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": owner["metadata"]["uid"],
        "blockOwnerDeletion": True,
    }  # fmt: skip
    owned = config_map(f"{name}-owned")
    kube.create({**owned, "metadata": {**owned["metadata"], "ownerReferences": [reference]}})

    kube.delete(kinds.CONFIG_MAP, NAMESPACE, name, owner["metadata"]["uid"])

    cluster.wait(lambda: kube.get(kinds.CONFIG_MAP, NAMESPACE, name) is None, 30, "the owner is gone")
    assert kube.get(kinds.CONFIG_MAP, NAMESPACE, f"{name}-owned") is None


def test_a_list_holds_what_carries_all_labels_and_says_what_it_is(kube, name):
    for suffix, labels in (("x", {"for": name, "role": "leader"}), ("y", {"for": name})):
        one = config_map(f"{name}-{suffix}")
        kube.create({**one, "metadata": {**one["metadata"], "labels": labels}})

    (found,) = kube.list(kinds.CONFIG_MAP, NAMESPACE, {"for": name, "role": "leader"})

    assert (found["apiVersion"], found["kind"], found["metadata"]["name"]) == ("v1", "ConfigMap", f"{name}-x")
    assert len(kube.list(kinds.CONFIG_MAP, "", {"for": name})) == 2


def test_a_kind_that_the_cluster_does_not_have_is_absent_and_not_served(api, kube):
    access = KubeAccess(api)

    assert kube.get(NOTHING, NAMESPACE, "chat") is None
    assert kube.list(NOTHING, NAMESPACE) == []
    assert access.serves(NOTHING) is False
    assert access.serves(kinds.LEADER_WORKER_SET) is True
    assert access.serves(kinds.POD) is True


@pytest.fixture
def start_pod(core, name):
    def start(script, **spec):
        container = {"name": "main", "image": "any", "command": ["python3", "-c", script]}
        body = {"containers": [container], "terminationGracePeriodSeconds": 0, "restartPolicy": "OnFailure", **spec}
        core.create_namespaced_pod(NAMESPACE, {"metadata": {"name": name}, "spec": body})

    return start


def test_the_last_lines_of_a_pod_are_read(cluster, api, start_pod, name):
    start_pod(SPEAKER)
    logs = KubePodLogs(api)
    cluster.wait(lambda: "three" in logs.tail(NAMESPACE, name, "main", 10), 60, "the pod has spoken")

    assert logs.tail(NAMESPACE, name, "main", 2) == "two\nthree\n"
    assert logs.tail(NAMESPACE, name, "main", 2, previous=True) == ""


def test_what_a_container_said_before_its_restart_is_read(cluster, api, start_pod, name):
    start_pod("import sys; print('last words', flush=True); sys.exit(1)")
    logs = KubePodLogs(api)

    cluster.wait(
        lambda: logs.tail(NAMESPACE, name, "main", 5, previous=True) == "last words\n", 60, "the first run's words"
    )


def test_a_pod_that_has_not_started_or_is_not_there_has_no_log(api, start_pod, name):
    start_pod(SPEAKER, nodeSelector={"kubernetes.io/hostname": "no-such-node"})
    logs = KubePodLogs(api)

    assert logs.tail(NAMESPACE, name, "main", 5) == ""
    assert logs.tail(NAMESPACE, f"{name}-other", "main", 5) == ""


@contextmanager
def known_by(api, token):
    """A client with another identity, in a configuration of its own: the admin's renews its token by itself."""
    configuration = client.Configuration(host=api.configuration.host)
    configuration.ssl_ca_cert = api.configuration.ssl_ca_cert
    configuration.api_key = {"BearerToken": f"Bearer {token}"}
    with client.ApiClient(configuration) as found:
        yield found


@pytest.fixture
def stranger(api, core, name):
    """The cluster for a service account without any right."""
    account = core.create_namespaced_service_account(NAMESPACE, {"metadata": {"name": name}})
    request = {"spec": {"audiences": [], "expirationSeconds": 600}}
    granted = core.create_namespaced_service_account_token(name, NAMESPACE, request).status.token
    with known_by(api, granted) as found:
        yield found
    core.delete_namespaced_service_account(account.metadata.name, NAMESPACE)


def test_an_identity_without_rights_is_told_what_to_grant_and_nothing_is_empty(stranger, name):
    assert KubeAccess(stranger).may("get", kinds.POD, NAMESPACE, "log") is False
    with pytest.raises(Permanent, match=rf'"system:serviceaccount:{NAMESPACE}:{name}" cannot list .*deploy/rbac'):
        KubeCluster(stranger).list(kinds.POD, NAMESPACE)
    with pytest.raises(Permanent, match=r"pods/log.*deploy/rbac"):
        KubePodLogs(stranger).tail(NAMESPACE, name, "main", 1)


def test_the_owner_of_the_cluster_may_do_what_the_steps_need(api):
    assert KubeAccess(api).may("create", kinds.LEADER_WORKER_SET, NAMESPACE) is True


def test_an_unknown_token_is_permanent_and_not_shown(api, token):
    with known_by(api, token) as nobody, pytest.raises(Permanent, match="does not know this identity") as raised:
        KubeCluster(nobody).list(kinds.POD, NAMESPACE)

    assert token not in str(raised.value)


def test_a_certificate_of_another_authority_is_no_answer(api):
    by_itself = client.Configuration(host=api.configuration.host)

    with client.ApiClient(by_itself) as found, pytest.raises(Transient, match="did not answer"):
        KubeCluster(found).list(kinds.POD, NAMESPACE)
