import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_rollout import names
from llm_rollout.manifests import stamp
from llm_rollout.manifests.autoscaler import autoscaler
from llm_rollout.manifests.canary_job import canary_job
from llm_rollout.manifests.fabric_job import fabric_job
from llm_rollout.manifests.leader_worker_set import leader_worker_set, revision_content
from llm_rollout.manifests.pod_monitor import pod_monitor
from llm_rollout.manifests.service import service
from llm_rollout.manifests.stage_job import stage_job
from llm_rollout.rollout import RolloutPlan
from llm_rollout.spec import RolloutSpec

ONLY_ONE_NODE = {"--nnodes", "--node-rank", "--master-addr"}

specs = st.builds(
    lambda name, nodes, groups, drain, cold_start, extra, executor, rdma: RolloutSpec.model_validate(
        {
            "name": name,
            "model": {"repo": "org/model", "token_secret": "hf"},
            "server": {
                "nodes_per_group": nodes,
                "gpus_per_node": 8,
                "tensor_parallel": 8,
                "pipeline_parallel": nodes,
                "extra_args": extra,
                "executor": executor,
                "network": {"rdma_resource": rdma, "attachments": ["rail-0"]},
            },
            "groups": groups,
            "service": {"name": "front"},
            "timing": {"drain_seconds": drain, "cold_start_seconds": cold_start},
            "autoscaling": {"min_groups": 1, "max_groups": 64},
        }
    ),
    st.from_regex(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", fullmatch=True).filter(lambda name: name != "front"),
    st.integers(1, 64),
    st.integers(1, 64),
    st.integers(0, 600),
    st.integers(10, 7200),
    st.sampled_from([(), ("--enforce-eager",)]),
    st.sampled_from(["mp", "ray"]),
    st.sampled_from([None, "rdma/rdma_shared_device_a"]),
)


def plan_for(spec):
    return RolloutPlan(
        spec=spec,
        commit="f" * 40,
        revision_id="abcdefgh",
        lws=names.lws_name(spec.name, "abcdefgh"),
        nodes=tuple(f"node-{i}" for i in range(spec.groups * spec.server.nodes_per_group)),
        weights_bytes=1,
        stable_lws=names.lws_name(spec.name, "ponmlkji"),
        stable_revision_id="ponmlkji",
        fencing_token=1,
    )


def everything(spec):
    plan = plan_for(spec)
    return [
        leader_worker_set(spec, plan),
        service(spec, plan.revision_id),
        stage_job(spec, plan.commit, "run/1"),
        *fabric_job(spec, plan.nodes, "run/1"),
        canary_job(spec, plan, "run", "run/1"),
        autoscaler(spec, plan.lws),
        pod_monitor(spec),
    ]


def templates(manifest):
    if manifest["kind"] == "LeaderWorkerSet":
        group = manifest["spec"]["leaderWorkerTemplate"]
        return [group["leaderTemplate"], group["workerTemplate"]]
    return [manifest["spec"]["template"]] if manifest["kind"] == "Job" else []


def flags(template):
    command = template["spec"]["containers"][0]["command"]
    return {argument for argument in command if argument.startswith("--")}


@given(specs)
def test_names_and_what_kubernetes_derives_from_them_fit_in_63_characters(spec):
    for manifest in everything(spec):
        name = manifest["metadata"]["name"]
        longest = f"{name}-{spec.groups - 1}-{spec.server.nodes_per_group - 1}"
        derived = longest if manifest["kind"] == "LeaderWorkerSet" else name
        pods = manifest["spec"].get("completions")

        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
        assert len(derived) <= 63
        assert pods is None or len(f"{name}-{pods - 1}") <= 63


@given(specs)
def test_label_values_are_valid(spec):
    for manifest in everything(spec):
        for labels in [manifest["metadata"]["labels"], *(t["metadata"]["labels"] for t in templates(manifest))]:
            for value in labels.values():
                assert re.fullmatch(r"[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?", value)


@given(specs)
def test_service_and_monitor_select_the_leaders_and_nothing_else(spec):
    plan = plan_for(spec)
    manifests = everything(spec)
    service_selector = service(spec, plan.revision_id)["spec"]["selector"].items()
    monitor_selector = pod_monitor(spec)["spec"]["selector"]["matchLabels"].items()
    selected = [
        template["metadata"]["labels"][names.ROLE_LABEL]
        for manifest in manifests
        for template in templates(manifest)
        if service_selector <= template["metadata"]["labels"].items()
    ]

    assert selected == (["leader", "leader"] if spec.server.nodes_per_group == 1 else ["leader"])
    assert monitor_selector <= service_selector


@given(specs)
def test_nothing_is_selected_before_the_first_switch(spec):
    selector = service(spec, None)["spec"]["selector"].items()

    assert not any(
        selector <= template["metadata"]["labels"].items()
        for manifest in everything(spec)
        for template in templates(manifest)
    )


@given(specs.filter(lambda spec: spec.server.executor == "mp" and spec.server.nodes_per_group > 1))
def test_leader_and_workers_have_the_same_engine_flags(spec):
    leader, worker = templates(leader_worker_set(spec, plan_for(spec)))

    assert flags(leader) - flags(worker) == {"--host=0.0.0.0", f"--port={spec.server.port}"}
    assert flags(worker) - flags(leader) == {"--headless"}


@given(specs)
def test_leader_and_workers_have_the_same_environment_and_resources(spec):
    leader, worker = (t["spec"]["containers"][0] for t in templates(leader_worker_set(spec, plan_for(spec))))

    assert leader["env"] == worker["env"]
    assert leader["resources"] == worker["resources"]


@given(specs)
def test_one_node_groups_do_not_look_for_others(spec):
    leader, _ = templates(leader_worker_set(spec, plan_for(spec)))
    names_of_flags = {flag.partition("=")[0] for flag in flags(leader)}
    over_nodes = spec.server.nodes_per_group > 1 and spec.server.executor == "mp"

    assert names_of_flags & ONLY_ONE_NODE == (ONLY_ONE_NODE if over_nodes else set())


@given(specs)
def test_every_timer_of_a_cold_start_allows_the_budget(spec):
    manifest = leader_worker_set(spec, plan_for(spec))
    container = templates(manifest)[0]["spec"]["containers"][0]
    probe = container["startupProbe"]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    budget = spec.timing.cold_start_seconds

    assert probe["periodSeconds"] * probe["failureThreshold"] >= budget
    assert int(environment["VLLM_ENGINE_READY_TIMEOUT_S"]) >= budget
    assert f"-timeout-seconds={budget}" in " ".join(container["command"])


@given(specs)
def test_pods_outlive_the_engines_drain_and_hold_no_kubernetes_credentials(spec):
    for manifest in everything(spec):
        for template in templates(manifest):
            assert template["spec"]["automountServiceAccountToken"] is False
            if manifest["kind"] == "LeaderWorkerSet":
                assert template["spec"]["terminationGracePeriodSeconds"] > spec.timing.drain_seconds


@given(specs)
def test_the_probe_uses_the_models_network(spec):
    plan = plan_for(spec)
    model = templates(leader_worker_set(spec, plan))[0]
    _, job = fabric_job(spec, plan.nodes, "run/1")
    probe = templates(job)[0]
    model_container, probe_container = model["spec"]["containers"][0], probe["spec"]["containers"][0]

    def rdma(container):
        return {k: v for k, v in container["resources"]["limits"].items() if k != "nvidia.com/gpu"}

    def nccl(container):
        return [entry for entry in container["env"] if entry["name"].startswith("NCCL_")]

    assert probe["metadata"]["annotations"] == model["metadata"]["annotations"]
    assert rdma(probe_container) == rdma(model_container)
    assert nccl(probe_container) == nccl(model_container)
    assert probe_container.get("securityContext") == model_container.get("securityContext")
    assert "nvidia.com/gpu" not in probe_container["resources"]["limits"]


@given(specs)
def test_the_token_reaches_a_job_only_by_reference(spec):
    text = json.dumps(stage_job(spec, "f" * 40, "run/1"))

    assert '"secretKeyRef": {"name": "hf", "key": "HF_TOKEN"}' in text
    assert all("HF_TOKEN" not in json.dumps(m) for m in everything(spec) if m["metadata"]["name"] not in text)


def test_fabric_reports_count_only_for_the_same_nodes_and_settings(make_spec):
    spec = make_spec()
    other = make_spec({"server": {"network": {"hcas": ["mlx5_0"]}}})
    name = fabric_job(spec, ["node-1", "node-2"], "run/1")[1]["metadata"]["name"]

    assert fabric_job(spec, ["node-2", "node-1"], "run/2")[1]["metadata"]["name"] == name
    assert fabric_job(spec, ["node-1", "node-3"], "run/1")[1]["metadata"]["name"] != name
    assert fabric_job(other, ["node-1", "node-2"], "run/1")[1]["metadata"]["name"] != name


def test_fabric_service_and_job_find_each_other(make_spec):
    headless, job = fabric_job(make_spec(), ["node-1", "node-2", "node-3"], "run/1")
    name = job["metadata"]["name"]

    assert headless["metadata"]["name"] == name == job["spec"]["template"]["spec"]["subdomain"]
    assert headless["spec"]["selector"] == {"batch.kubernetes.io/job-name": name}
    assert headless["spec"]["publishNotReadyAddresses"] is True


def test_stamp_ignores_attempt_and_fence_and_nothing_else(make_spec):
    spec = make_spec()
    first, second = stage_job(spec, "a" * 40, "run/1"), stage_job(spec, "a" * 40, "run/2")
    key = names.CONTENT_ANNOTATION
    edited = stamp({**first, "spec": {**first["spec"], "backoffLimit": 9}})

    assert first["metadata"]["annotations"][key] == second["metadata"]["annotations"][key]
    assert stamp(first) == first
    assert edited["metadata"]["annotations"][key] != first["metadata"]["annotations"][key]


def test_scaled_models_may_leave_the_planned_nodes_and_others_may_not(make_spec, make_plan):
    def affinity(spec):
        template = templates(leader_worker_set(spec, make_plan(spec)))[0]
        return set(template["spec"]["affinity"]["nodeAffinity"])

    fixed = make_spec({"groups": 2, "autoscaling": {"min_groups": 1, "max_groups": 2}})
    grows = make_spec({"groups": 2, "autoscaling": {"min_groups": 1, "max_groups": 3}})

    assert affinity(make_spec()) == affinity(fixed) == {"requiredDuringSchedulingIgnoredDuringExecution"}
    assert affinity(grows) == {"preferredDuringSchedulingIgnoredDuringExecution"}


def test_ray_serves_only_after_the_cluster_has_formed(make_spec, make_plan):
    spec = make_spec({"server": {"executor": "ray", "extra_args": ["--override={'a': 1}"]}})
    leader, worker = templates(leader_worker_set(spec, make_plan(spec)))
    script = leader["spec"]["containers"][0]["command"][2]

    assert re.search(r"multi-node-serving\.sh leader .*--ray_init_timeout=1800 && exec vllm serve ", script)
    assert "'--override={'\"'\"'a'\"'\"': 1}'" in script
    assert ";" not in script
    assert "vllm serve" not in worker["spec"]["containers"][0]["command"][2]


def test_autoscaler_needs_the_spec_to_ask_for_it(make_spec):
    with pytest.raises(ValueError, match="autoscaling is not set in the spec of llama-405b"):
        autoscaler(make_spec(), "llama-405b-abcdefgh")


def test_settings_in_nccl_env_win(make_spec, make_plan):
    spec = make_spec({"server": {"network": {"nccl_env": {"NCCL_DEBUG": "WARN", "NCCL_IB_TC": "106"}}}})
    container = templates(leader_worker_set(spec, make_plan(spec)))[0]["spec"]["containers"][0]
    entries = [entry for entry in container["env"] if entry["name"].startswith("NCCL_")]

    assert {entry["name"]: entry["value"] for entry in entries} == {
        "NCCL_IB_HCA": "=mlx5_0,mlx5_1,mlx5_2,mlx5_3,mlx5_4,mlx5_5,mlx5_6,mlx5_7",
        "NCCL_SOCKET_IFNAME": "=eth0",
        "NCCL_DEBUG": "WARN",
        "NCCL_DEBUG_SUBSYS": "INIT,NET",
        "NCCL_IB_TC": "106",
    }
    assert len(entries) == 5


@given(specs, specs)
def test_specs_that_differ_in_their_pods_are_different_revisions(one, other):
    other = other.model_copy(update={"name": one.name})
    plan = plan_for(one)
    pods = [templates(leader_worker_set(spec, plan)) for spec in (one, other)]

    assert pods[0] == pods[1] or revision_content(one) != revision_content(other)


@pytest.mark.parametrize(
    "changes",
    [
        {"store": {"claim": "other"}},
        {"store": {"mount_path": "/weights"}},
        {"model": {"repo": "org/other"}},
        {"timing": {"drain_seconds": 9}},
        {"timing": {"cold_start_seconds": 999}},
        {"server": {"resources": {"shm": "1Gi"}}},
        {"autoscaling": {"min_groups": 1, "max_groups": 9}},
    ],
)
def test_a_change_that_reaches_the_pods_is_another_revision(changes, make_spec, make_plan):
    one, other = make_spec(), make_spec(changes)
    plan = make_plan(one)

    assert templates(leader_worker_set(one, plan)) != templates(leader_worker_set(other, plan))
    assert revision_content(one) != revision_content(other)
