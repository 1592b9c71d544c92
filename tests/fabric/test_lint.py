import copy
import json
from pathlib import Path

import pytest

from llm_rollout.fabric.lint import lint, recognised
from llm_rollout.manifests.fabric_job import fabric_job
from llm_rollout.manifests.leader_worker_set import leader_worker_set
from llm_rollout.names import lws_name
from llm_rollout.rollout import RolloutPlan
from llm_rollout.spec_loading import load_spec

ROLLOUTS = Path(__file__).parents[2] / "include/rollouts"
NETWORKS = "k8s.v1.cni.cncf.io/networks"
RESOURCE_NAME = "k8s.v1.cni.cncf.io/resourceName"
DEVICE = "rdma/rdma_shared_device_a"
RAILS = ("mlx5_0", "mlx5_1")


def network(name="rail-0", config=None, resource=DEVICE, namespace="ai"):
    settings = config or {"cniVersion": "0.3.1", "type": "macvlan", "master": "ens1f0np0"}
    return {
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": name, "namespace": namespace, "annotations": {RESOURCE_NAME: resource}},
        "spec": {"config": json.dumps(settings)},
    }


def template():
    env = {
        "NCCL_IB_HCA": "=" + ",".join(RAILS),
        "NCCL_SOCKET_IFNAME": "=eth0",
        "NCCL_DEBUG": "INFO",
    }
    return {
        "metadata": {"annotations": {NETWORKS: "rail-0,rail-1"}},
        "spec": {
            "containers": [
                {
                    "name": "engine",
                    "env": [{"name": name, "value": value} for name, value in env.items()],
                    "securityContext": {"capabilities": {"add": ["IPC_LOCK"]}},
                    "resources": {"limits": {"nvidia.com/gpu": 8, DEVICE: 1}},
                }
            ]
        },
    }


def group():
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": "chat", "namespace": "ai"},
        "spec": {
            "leaderWorkerTemplate": {"size": 2, "leaderTemplate": template(), "workerTemplate": template()},
        },
    }


def sound():
    return [group(), network("rail-0"), network("rail-1")]


def each_template(manifests):
    return [manifests[0]["spec"]["leaderWorkerTemplate"][key] for key in ("leaderTemplate", "workerTemplate")]


def set_env(manifests, name, value):
    for body in each_template(manifests):
        env = body["spec"]["containers"][0]["env"]
        env[:] = [entry for entry in env if entry["name"] != name]
        if value is not None:
            env.append({"name": name, "value": value})


def found(manifests, severity="error"):
    return sorted({finding.code for finding in lint(manifests) if finding.severity == severity})


def test_sound_settings_have_no_findings():
    assert lint(sound()) == []


def pod_side_device(manifests):
    manifests[1] = network(config={"type": "host-device", "device": "net1"}, resource="nvidia.com/hostdev")
    manifests[2] = network("rail-1", resource="nvidia.com/hostdev")
    for body in each_template(manifests):
        body["spec"]["containers"][0]["resources"]["limits"] = {"nvidia.com/gpu": 8, "nvidia.com/hostdev": 1}


def shared_device_with_host_device(manifests):
    manifests[1] = network(config={"type": "host-device", "device": "ens1f0np0"})


def slash_in_the_networks_name(manifests):
    manifests[1] = network(config={"type": "macvlan", "master": "ens1f0np0", "name": "ai/rail-0"})


def other_resource(manifests):
    for body in each_template(manifests):
        body["spec"]["containers"][0]["resources"]["limits"] = {"nvidia.com/gpu": 8, "rdma/other": 1}


def resource_that_no_node_has(manifests):
    manifests.append({"kind": "Node", "metadata": {"name": "n"}, "status": {"allocatable": {"rdma/hca_b": "8"}}})


def no_attachment(manifests):
    for body in each_template(manifests):
        body["metadata"] = {}


def attachment_on_the_leader_only(manifests):
    each_template(manifests)[1]["metadata"] = {}


def different_attachments(manifests):
    each_template(manifests)[1]["metadata"]["annotations"][NETWORKS] = "rail-1,rail-0"


def network_of_another_namespace(manifests):
    manifests[1] = network(namespace="elsewhere")


def one_rail_of_two(manifests):
    for body in each_template(manifests):
        body["metadata"]["annotations"][NETWORKS] = json.dumps([{"name": "rail-0", "interface": "net1"}])


def no_ipc_lock(manifests):
    for body in each_template(manifests):
        del body["spec"]["containers"][0]["securityContext"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (other_resource, "K0"),
        (resource_that_no_node_has, "K0"),
        (pod_side_device, "K1"),
        (shared_device_with_host_device, "K2"),
        (slash_in_the_networks_name, "K2"),
        (no_attachment, "K3"),
        (attachment_on_the_leader_only, "K3"),
        (different_attachments, "K3"),
        (network_of_another_namespace, "K3"),
        (one_rail_of_two, "K4"),
        (no_ipc_lock, "K5"),
    ],
)
def test_each_defect_of_networks_and_pods_is_found_by_its_code_alone(change, code):
    manifests = sound()
    change(manifests)

    assert found(manifests) == [code]


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("NCCL_IB_HCA", "mlx5_0,mlx5_1", "K6"),
        ("NCCL_IB_GID_INDEX", "3", "K7"),
        ("NCCL_SOCKET_IFNAME", "eth0", "K8"),
        ("NCCL_IB_TC", "256", "K9"),
        ("NCCL_IB_SL", "16", "K9"),
        ("NCCL_DEBUG", "WARN", "K10"),
        ("NCCL_DEBUG", None, "K10"),
        ("NCCL_IB_QPS_PER_CONNECTION", "0", "K11"),
        ("NCCL_IB_QPS_PER_CONNECTION", "129", "K11"),
    ],
)
def test_each_wrong_setting_is_found_by_its_code_alone_on_both_sides(name, value, code):
    manifests = sound()
    set_env(manifests, name, value)

    assert found(manifests) == [code]
    assert len(lint(manifests)) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [("NCCL_IB_GID_INDEX", "-1"), ("NCCL_IB_HCA", "^=mlx5_2"), ("NCCL_DEBUG", "TRACE")],
)
def test_unusual_and_right_settings_have_no_findings(name, value):
    manifests = sound()
    set_env(manifests, name, value)

    assert lint(manifests) == []


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [("NCCL_IB_TC", "106", "K9"), ("NCCL_IB_SL", "5", "K9"), ("NCCL_IB_QPS_PER_CONNECTION", "4", "K11")],
)
def test_what_depends_on_the_switches_is_a_warning(name, value, code):
    manifests = sound()
    set_env(manifests, name, value)

    assert found(manifests) == []
    assert found(manifests, "warning") == [code]


def test_pods_without_any_nccl_setting_are_found():
    manifests = sound()
    for body in each_template(manifests):
        body["spec"]["containers"][0]["env"] = []
    manifests[1:] = [network(f"rail-{index}") for index in range(8)]
    for body in each_template(manifests):
        body["metadata"]["annotations"][NETWORKS] = ",".join(f"rail-{index}" for index in range(8))

    assert found(manifests) == ["K10"]


def test_a_prefix_of_hcas_needs_a_rail_for_each_gpu():
    manifests = sound()
    set_env(manifests, "NCCL_IB_HCA", "mlx5")

    assert found(manifests) == ["K4", "K6"]


def test_an_env_block_beside_the_manifests_is_found_with_what_is_wrong_in_it():
    block = {"env": [{"name": "NCCL_IB_HCA", "value": "mlx5"}, {"name": "NCCL_IB_GID_INDEX", "value": "3"}]}

    assert found([*sound(), block]) == ["K10", "K6", "K7"]


def test_pods_without_rdma_are_left_alone():
    plain = {"kind": "Deployment", "metadata": {"name": "web"}, "spec": {"template": {"spec": {"containers": [{}]}}}}

    assert lint([plain]) == []


@pytest.mark.parametrize("written", ["{", "[]", "3", "[" * 100_000])
def test_a_network_without_readable_configuration_is_found(written):
    broken = copy.deepcopy(network())
    broken["spec"]["config"] = written

    assert [finding.code for finding in lint([broken])] == ["K2"]


def test_a_network_that_the_nodes_configure_is_no_defect_and_no_known_pairing():
    manifests = sound()
    del manifests[1]["spec"]["config"]

    assert found(manifests) == []
    assert found(manifests, "warning") == ["K2"]
    assert all("the CNI that only the nodes configure" in finding.message for finding in lint(manifests))


@pytest.mark.parametrize(
    ("image", "env", "severity"),
    [
        ("vllm/vllm-openai:v0.6.3", {}, "warning"),
        ("vllm/vllm-openai:v0.6.4", {}, "error"),
        ("vllm/vllm-openai:v0.33.0", {}, "error"),
        ("vllm/vllm-openai:v1.0.0", {}, "error"),
        ("registry.example:5000/engine:cuda12.4-nccl2.20.5", {}, "warning"),
        ("registry.example:5000/engine:cuda12.4-nccl2.21.5", {}, "error"),
        ("registry.example/engine:1", {}, "error"),
        ("registry.example/engine:1", {"NCCL_VERSION": "2.19.3-1"}, "warning"),
        ("registry.example/engine:1", {"NCCL_VERSION": "2.30.7"}, "error"),
        ("vllm/vllm-openai:v0.6.3", {"NCCL_VERSION": "2.22.3"}, "error"),
    ],
)
def test_a_gid_index_is_doubtful_only_with_an_nccl_that_does_not_choose(image, env, severity):
    manifests = sound()
    for body in each_template(manifests):
        body["spec"]["containers"][0]["image"] = image
    for name, value in {**env, "NCCL_IB_GID_INDEX": "3"}.items():
        set_env(manifests, name, value)

    assert {(finding.code, finding.severity) for finding in lint(manifests)} == {("K7", severity)}


def test_pods_that_switch_rdma_off_are_left_alone():
    manifests = sound()
    set_env(manifests, "NCCL_IB_DISABLE", "1")
    set_env(manifests, "NCCL_DEBUG", "WARN")

    assert lint(manifests) == []


def test_pods_on_the_nodes_network_need_no_attachment():
    manifests = sound()
    for body in each_template(manifests):
        del body["metadata"]
        body["spec"]["hostNetwork"] = True

    assert lint(manifests) == []
    assert [one.rpartition(": ")[2] for one in recognised(manifests).values()] == ["the node's own network"]


def test_the_engine_is_judged_where_a_sidecar_stands_before_it():
    manifests = sound()
    for body in each_template(manifests):
        body["spec"]["containers"].insert(0, {"name": "proxy"})
    set_last = each_template(manifests)[0]["spec"]["containers"][1]
    del set_last["securityContext"]

    (finding,) = lint(manifests)
    assert finding.code == "K5"
    assert "containers[1]" in finding.field_path
    assert "containers[1]" in finding.corrected


def test_values_that_come_from_elsewhere_are_not_judged():
    manifests = sound()
    for body in each_template(manifests):
        entry = next(one for one in body["spec"]["containers"][0]["env"] if one["name"] == "NCCL_DEBUG")
        del entry["value"]
        entry["valueFrom"] = {"configMapKeyRef": {"name": "nccl", "key": "debug"}}

    assert lint(manifests) == []


@pytest.mark.parametrize(
    ("subsystems", "codes"),
    [("INIT,NET", []), ("ALL", []), ("^TUNING", []), ("COLL", ["K10"]), ("INIT", ["K10"]), ("^NET", ["K10"])],
)
def test_a_log_names_the_transport_with_init_and_net(subsystems, codes):
    manifests = sound()
    set_env(manifests, "NCCL_DEBUG_SUBSYS", subsystems)

    assert found(manifests) == codes


def test_without_networks_given_no_pairing_is_told_and_none_is_doubted():
    assert lint([group()]) == []
    assert recognised([group()]) == {}


@pytest.mark.parametrize("name", ["llama-405b", "tiny-chat"])
def test_what_llm_rollout_renders_has_no_findings(name):
    spec = load_spec(ROLLOUTS / f"{name}.yaml")
    nodes = ("node-1", "node-2", "node-3")
    plan = RolloutPlan(
        spec=spec,
        commit="a" * 40,
        revision_id="abcdefgh",
        lws=lws_name(spec.name, "abcdefgh"),
        nodes=nodes,
        weights_bytes=1,
        stable_lws=None,
        stable_revision_id=None,
        fencing_token=1,
    )
    networks = [
        network(attachment, namespace=spec.namespace) for attachment in sorted(set(spec.server.network.attachments))
    ]

    assert lint([leader_worker_set(spec, plan), *fabric_job(spec, nodes, "run/1"), *networks]) == []
