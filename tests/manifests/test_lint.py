import copy

import pytest
import yaml

from llm_rollout.manifests.autoscaler import autoscaler
from llm_rollout.manifests.canary_job import canary_job
from llm_rollout.manifests.fabric_job import fabric_job
from llm_rollout.manifests.leader_worker_set import leader_worker_set
from llm_rollout.manifests.lint import lint
from llm_rollout.manifests.pod_monitor import pod_monitor
from llm_rollout.manifests.service import service
from llm_rollout.manifests.stage_job import stage_job

FLAGS = ["--tensor-parallel-size=8", "--pipeline-parallel-size=2", "--shutdown-timeout=60"]
GROUP = ["--nnodes=$(LWS_GROUP_SIZE)", "--node-rank=$(LWS_WORKER_INDEX)", "--master-addr=$(LWS_LEADER_ADDRESS)"]


def container(command):
    return {
        "name": "engine",
        "image": "vllm/vllm-openai:v0.33.0",
        "command": command,
        "resources": {"limits": {"nvidia.com/gpu": 8}},
        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],
    }


def sound_group():
    leader = container(["vllm", "serve", "/models/m", *FLAGS, *GROUP, "--port", "8000"])
    leader["startupProbe"] = {"httpGet": {"path": "/health", "port": 8000}, "failureThreshold": 360, "periodSeconds": 5}
    leader["livenessProbe"] = {"httpGet": {"path": "/health", "port": 8000}}
    worker = container(["vllm", "serve", "/models/m", *FLAGS, *GROUP, "--headless"])
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": "chat", "namespace": "ai"},
        "spec": {
            "replicas": 2,
            "leaderWorkerTemplate": {
                "size": 2,
                "restartPolicy": "RecreateGroupAfterStart",
                "leaderTemplate": {"spec": {"containers": [leader]}},
                "workerTemplate": {"spec": {"containers": [worker]}},
            },
        },
    }


def of(group, role):
    return group["spec"]["leaderWorkerTemplate"][f"{role}Template"]["spec"]["containers"][0]


def codes(manifests, severity="error"):
    return sorted({finding.code for finding in lint(manifests) if finding.severity == severity})


def test_a_sound_group_has_no_findings():
    assert lint([sound_group()]) == []


def change_env(group):
    of(group, "leader")["env"] = [{"name": "LWS_LEADER_ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]


def change_model_flag(group):
    for role in ("leader", "worker"):
        of(group, role)["command"][2:3] = ["--model", "/models/m"]


def change_model_to_repository(group):
    for role in ("leader", "worker"):
        of(group, role)["command"][2] = "org/model"


def change_to_ray(group):
    for role in ("leader", "worker"):
        of(group, role)["command"].append("--distributed-executor-backend=ray")


def change_to_ray_in_two_words(group):
    change_to_ray(group)
    for role in ("leader", "worker"):
        of(group, role)["image"] = "registry.example/vllm-with-ray:1"
        of(group, role)["command"][-1:] = ["--distributed-executor-backend", "ray"]


def change_to_ray_that_nobody_starts(group):
    change_to_ray(group)
    for role in ("leader", "worker"):
        of(group, role)["image"] = "registry.example/vllm-with-ray:1"


def change_startup_probe(group):
    del of(group, "leader")["startupProbe"]


def change_readiness(group):
    of(group, "leader")["readinessProbe"] = {"initialDelaySeconds": 300}


def change_shm(group):
    of(group, "worker")["volumeMounts"] = []


def change_headless(group):
    of(group, "worker")["command"].remove("--headless")


def change_worker_flags(group):
    of(group, "leader")["command"] += ["--max-model-len", "4096"]


def change_startup_policy(group):
    group["spec"]["startupPolicy"] = "LeaderReady"


def change_restart_policy(group):
    group["spec"]["leaderWorkerTemplate"]["restartPolicy"] = "None"


def change_name(group):
    group["metadata"]["name"] = "c" * 52


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (change_name, "L2"),
        (change_startup_policy, "L3"),
        (change_restart_policy, "L3"),
        (change_env, "L4"),
        (change_model_flag, "L5"),
        (change_model_to_repository, "L6"),
        (change_to_ray, "L7"),
        (change_to_ray_that_nobody_starts, "L7"),
        (change_to_ray_in_two_words, "L7"),
        (change_startup_probe, "L8"),
        (change_readiness, "L9"),
        (change_shm, "L10"),
        (change_headless, "L11"),
        (change_worker_flags, "L12"),
    ],
)
def test_each_defect_of_a_group_is_found_by_its_code_alone(change, code):
    group = sound_group()
    change(group)
    found = lint([group])

    assert {finding.code for finding in found} == {code}
    assert all(finding.message and finding.fix for finding in found)


def test_ray_that_is_started_first_is_fine():
    group = sound_group()
    serve = "vllm serve /models/m --distributed-executor-backend ray --shutdown-timeout 60"
    for role, script in (
        ("leader", f"multi-node-serving.sh leader --ray_cluster_size=2 && {serve}"),
        ("worker", "multi-node-serving.sh worker --ray_address=$LWS_LEADER_ADDRESS"),
    ):
        of(group, role).update(image="registry.example/vllm-with-ray:1", command=["sh", "-c", script])

    assert lint([group]) == []


def test_a_service_named_like_the_group_is_found_in_the_same_namespace_only():
    def front(namespace):
        return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "chat", "namespace": namespace}}

    assert codes([sound_group(), front("ai")]) == ["L1"]
    assert codes([sound_group(), front("other")]) == []


def test_a_group_named_like_another_ones_statefulset_is_found():
    other = copy.deepcopy(sound_group())
    other["metadata"]["name"] = "chat-1"

    assert codes([sound_group(), other]) == ["L2"]


def test_a_service_monitor_on_the_group_label_finds_no_target():
    selector = {"matchLabels": {"leaderworkerset.sigs.k8s.io/name": "chat"}}
    monitor = {"kind": "ServiceMonitor", "metadata": {"name": "m"}, "spec": {"selector": selector}}

    assert codes([monitor]) == ["L13"]


@pytest.mark.parametrize("metric", ["vllm_gpu_cache_usage_perc", "vllm:avg_generation_throughput_toks_per_s"])
def test_metrics_that_vllm_no_longer_has_are_found_wherever_they_stand(metric):
    rule = {"kind": "PrometheusRule", "metadata": {"name": "r"}, "spec": {"groups": [{"expr": f"max({metric}) > 1"}]}}

    assert codes([rule]) == ["L14"]


def test_what_costs_something_is_a_warning():
    group = sound_group()
    group["spec"]["replicas"] = 1
    group["spec"]["leaderWorkerTemplate"]["restartPolicy"] = "RecreateGroupOnPodRestart"
    of(group, "leader")["command"].remove("--shutdown-timeout=60")
    of(group, "worker")["command"].remove("--shutdown-timeout=60")
    scaler = {
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h"},
        "spec": {
            "metrics": [{"pods": {"metric": {"name": "vllm_num_requests_waiting"}}}],
            "behavior": {"scaleUp": {"stabilizationWindowSeconds": 300}},
        },
    }
    found = lint([group, scaler])

    assert [finding.code for finding in found] == ["L15", "L15", "L15", "L14", "L14"]
    assert {finding.severity for finding in found} == {"warning"}


def test_what_llm_rollout_renders_has_no_findings(make_spec, make_plan):
    for changes in ({}, {"server": {"nodes_per_group": 1, "pipeline_parallel": 1}}, {"groups": 2}):
        spec = make_spec({**changes, "autoscaling": {"max_groups": 4}})
        plan = make_plan(spec)
        manifests = [
            leader_worker_set(spec, plan),
            service(spec, plan.revision_id),
            stage_job(spec, plan.commit, "run/1"),
            *fabric_job(spec, plan.nodes, "run/1"),
            canary_job(spec, plan, "run", "run/1"),
            pod_monitor(spec),
        ]

        assert lint(manifests) == []
        assert codes([*manifests, autoscaler(spec, plan.lws)]) == []


def test_ray_as_llm_rollout_renders_it_has_no_findings(make_spec, make_plan):
    spec = make_spec({"server": {"executor": "ray", "image": "registry.example/vllm-with-ray:1"}})

    assert lint([leader_worker_set(spec, make_plan(spec))]) == []


def test_corrected_commands_keep_every_flag_word_for_word():
    group = sound_group()
    of(group, "leader")["command"] += ["-O", "3", "--middleware", "a", "--middleware=b", "--enforce-eager"]
    of(group, "worker")["command"] += ["-O", "3", "--middleware", "a", "--middleware=b"]

    (finding,) = lint([group])

    assert finding.code == "L12"
    lines = yaml.safe_load(finding.corrected)["command"]
    engine = [*FLAGS, "-O", "3", "--middleware", "a", "--middleware=b", "--enforce-eager"]
    assert lines == ["vllm", "serve", "/models/m", *engine, *GROUP, "--headless"]


def test_a_service_that_tells_revisions_apart_is_fine():
    lws = "leaderworkerset.sigs.k8s.io/"
    for label in (f"{lws}template-revision-hash", f"{lws}group-index", "llm-rollout.dev/revision-id"):
        selector = {f"{lws}name": "chat", label: "x"}
        front = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "front"}, "spec": {"selector": selector}}

        assert lint([front]) == []


def test_an_adapter_rule_that_is_given_answers_for_the_name():
    rule = {"kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"c.yaml": "name: {as: vllm_num_requests_waiting}"}}
    metrics = [{"pods": {"metric": {"name": "vllm_num_requests_waiting"}}}]
    scaler = {"kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"}, "spec": {"metrics": metrics}}

    assert codes([scaler, rule], "warning") == []
    assert codes([scaler], "warning") == ["L14"]
