"""What the API server tells before anything is measured: each finding names field, value and remedy."""

import json

import pytest

from llm_rollout import kinds
from llm_rollout.steps import fabric_inventory, validate_rdma
from llm_rollout.verdict import Act, Fail

RAILS = {"server": {"network": {"attachments": ["rail-0", "rails/rail-1@net2"], "hcas": ["mlx5_0", "mlx5_1"]}}}
NODES = ("node-1", "node-2", "node-3")


def attachment(name, namespace="default", range_="10.0.1.0/29"):
    config = {"cniVersion": "0.3.1", "type": "macvlan", "ipam": {"type": "whereabouts", "range": range_}}
    return {
        "apiVersion": kinds.NETWORK_ATTACHMENT.api_version,
        "kind": kinds.NETWORK_ATTACHMENT.kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"config": json.dumps(config)},
    }


def pool(name, *offsets):
    return {
        "apiVersion": kinds.IP_POOL.api_version,
        "kind": kinds.IP_POOL.kind,
        "metadata": {"name": name, "namespace": "kube-system"},
        "spec": {"allocations": {str(offset): {"podref": "x/y"} for offset in offsets}},
    }


@pytest.fixture
def rails(world):
    """Both attachments are there, with addresses."""
    world.cluster.show(attachment("rail-0"))
    world.cluster.show(attachment("rail-1", "rails", "10.0.2.0/29"))
    return world


@pytest.fixture
def told(world, make_rollout):
    """What is found to be wrong, and what could not be read."""

    def look(changes=RAILS):
        spec = make_rollout(changes).spec
        found = fabric_inventory.attached(spec, world.ports)
        ground = fabric_inventory.observe(spec, world.ports, "aaaaaaaa")
        problems = list(fabric_inventory.problems(spec, NODES, ground, found))
        return problems, fabric_inventory.unread(spec, ground, found)

    return look


@pytest.mark.usefixtures("rails")
def test_a_cluster_that_is_as_it_should_be_has_no_findings(told):
    assert told() == ([], [])


def test_without_multus_no_attachment_can_be(world, told):
    world.access.unserved.add(kinds.NETWORK_ATTACHMENT.kind)

    [problem] = told()[0]

    assert problem.cause.startswith(
        "server.network.attachments rail-0, rails/rail-1@net2: the API server serves no k8s.cni"
    )
    assert problem.remedy.startswith("install Multus")


def test_an_attachment_in_another_namespace_is_not_found(rails, told):
    rails.cluster.forget(attachment("rail-0"))
    rails.cluster.show(attachment("rail-0", "rails"))

    [problem] = told()[0]

    assert "no NetworkAttachmentDefinition rail-0 in namespace default" in problem.cause
    assert "write NAMESPACE/rail-0" in problem.remedy


def test_what_may_not_be_read_is_unread_and_not_wrong(rails, told):
    rails.access.denied |= {("list", "ippools"), ("list", "network-attachment-definitions")}
    rails.cluster.show(pool("10.0.1.0-29", 1, 2, 3, 4, 5, 6))

    problems, unread = told()

    assert problems == []
    assert unread == [
        "ippools: this identity may not list them",
        "network attachment rails/rail-1: not there, or this identity may not list them",
    ]


def test_an_address_pool_needs_one_address_for_each_pod(rails, told):
    rails.cluster.show(pool("10.0.1.0-29", 1, 2, 3))
    assert told()[0] == []

    rails.cluster.show(pool("10.0.1.0-29", 1, 2, 3, 4))
    [problem] = told()[0]

    assert "rail-0: address pool 10.0.1.0-29 has 2 addresses free, 3 pods need 3" in problem.cause
    assert "ip-reconciler" in problem.remedy


def test_rails_that_share_a_pool_need_an_address_each(rails, told):
    rails.cluster.show(attachment("rail-1", "rails"))
    assert told()[0] == []

    rails.cluster.show(pool("10.0.1.0-29", 1))
    [problem] = told()[0]

    assert "rail-0, rails/rail-1@net2: address pool 10.0.1.0-29 has 5 addresses free, 3 pods need 6" in problem.cause


def test_addresses_that_cannot_be_understood_are_unread(rails, told):
    rails.cluster.show(attachment("rail-0", range_="ten"))

    problems, [unread] = told()

    assert problems == []
    assert unread.startswith("addresses of network attachment default/rail-0: ")


def tenant(**resources):
    container = {"name": "x", "resources": {"requests": resources}}
    metadata = {"name": "other", "namespace": "elsewhere"}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {"phase": "Running"},
        "spec": {"nodeName": "node-2", "containers": [container]},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        pytest.param(lambda node: node["spec"].update(unschedulable=True), "node node-2: cordoned", id="cordoned"),
        pytest.param(
            lambda node: node["spec"].update(taints=[{"key": "spot", "effect": "NoExecute"}]),
            "node node-2: tainted spot",
            id="a taint that the pods do not tolerate",
        ),
        pytest.param(
            lambda node: node["status"]["allocatable"].pop("rdma/rdma_shared_device_a"),
            "node node-2: 1 of rdma/rdma_shared_device_a needed, 0 free",
            id="no RDMA device",
        ),
    ],
)
def test_a_node_that_cannot_take_the_pods_is_named(world, told, change, cause):
    node = world.cluster.get(kinds.NODE, "", "node-2")
    change(node)
    world.cluster.show(node)

    [problem] = told({})[0]

    assert problem.cause == cause
    assert problem.remedy.startswith(
        "node node-2: put it right, or choose other nodes: in a rollout, clear plan_rollout"
    )


def test_what_others_hold_is_not_free(world, told):
    world.cluster.show(tenant(**{"nvidia.com/gpu": "2"}))

    [problem] = told({})[0]

    assert problem.cause == "node node-2: 8 of nvidia.com/gpu needed, 6 free, GPUs are held by other"


def test_a_node_that_is_gone_is_named(world, told):
    world.cluster.forget(world.cluster.get(kinds.NODE, "", "node-3"))

    assert [problem.cause for problem in told({})[0]] == ["node node-3: does not exist any more"]


def test_nothing_is_started_where_it_could_not_run(world, make_rollout):
    rollout = make_rollout(RAILS)

    verdict = validate_rdma.decide(rollout, validate_rdma.observe(rollout, world.ports), world.now())

    assert isinstance(verdict, Fail)
    assert "no NetworkAttachmentDefinition rail-0" in verdict.cause
    assert verdict.remedy.endswith("then clear this task")


def test_the_candidate_of_an_earlier_try_stands_in_nobodys_way(world, make_rollout, make_pod):
    pod = make_pod()
    pod["spec"]["containers"] = tenant(**{"nvidia.com/gpu": "8"})["spec"]["containers"]
    world.cluster.show({"apiVersion": "v1", "kind": "Pod", **pod})
    rollout = make_rollout()

    assert isinstance(validate_rdma.decide(rollout, validate_rdma.observe(rollout, world.ports), world.now()), Act)
