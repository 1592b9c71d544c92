import argparse
import json
import re
from pathlib import Path

import pytest
import yaml

from llm_rollout.commands import check
from llm_rollout.spec import RolloutSpec

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted(str(path) for path in (ROOT / "include/rollouts").glob("*.yaml"))
BAD = sorted((Path(__file__).parent / "bad_specs").glob("*.yaml"))
GOLDEN = sorted((Path(__file__).parent / "manifests/golden").glob("*.yaml"))

ARTICLE = """
apiVersion: leaderworkerset.x-k8s.io/v1
kind: LeaderWorkerSet
metadata: {name: big-model, namespace: serving}
spec:
  replicas: 1
  leaderWorkerTemplate:
    size: 2
    restartPolicy: RecreateGroupOnPodRestart
    leaderTemplate:
      spec:
        containers:
          - name: engine
            image: vllm/vllm-openai:v0.7.3
            env:
              - name: LWS_LEADER_ADDRESS
                valueFrom: {fieldRef: {fieldPath: "metadata.annotations['leader']"}}
            args: [--model=org/big, --tensor-parallel-size=8, --max-model-len=8192, --distributed-executor-backend=ray]
            resources: {limits: {nvidia.com/gpu: 8, rdma/rdma_shared_device_a: 1}}
            readinessProbe: {httpGet: {path: /health, port: 8000}, initialDelaySeconds: 300}
            livenessProbe: {httpGet: {path: /health, port: 8000}, initialDelaySeconds: 600}
    workerTemplate:
      spec:
        containers:
          - name: engine
            image: vllm/vllm-openai:v0.7.3
            args: [--model=org/big, --tensor-parallel-size=8, --distributed-executor-backend=ray]
            resources: {limits: {nvidia.com/gpu: 8, rdma/rdma_shared_device_a: 1}}
---
apiVersion: v1
kind: Service
metadata: {name: big-model, namespace: serving}
spec: {selector: {role: leader}, ports: [{port: 8000}]}
---
env:
  - {name: NCCL_IB_HCA, value: mlx5}
  - {name: NCCL_IB_GID_INDEX, value: "3"}
  - {name: NCCL_SOCKET_IFNAME, value: net1}
  - {name: NCCL_DEBUG, value: WARN}
  - {name: NCCL_IB_QPS_PER_CONNECTION, value: "4"}
  - {name: NCCL_IB_TC, value: "136"}
  - {name: NCCL_IB_SL, value: "5"}
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata: {name: big-model}
spec:
  selector: {matchLabels: {leaderworkerset.sigs.k8s.io/name: big-model}}
  endpoints: [{port: http}]
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: big-model}
spec:
  metrics: [{type: Pods, pods: {metric: {name: vllm_gpu_cache_usage_perc}}}]
"""

NETWORK = """
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata:
  name: fast
  namespace: serving
  annotations: {k8s.v1.cni.cncf.io/resourceName: rdma/rdma_shared_device_a}
spec:
  config: '{"cniVersion": "0.3.1", "type": "host-device", "device": "net1"}'
"""

GROUP = """
apiVersion: leaderworkerset.x-k8s.io/v1
kind: LeaderWorkerSet
metadata: {name: chat}
spec:
  leaderWorkerTemplate:
    workerTemplate: {}
    """


def run(*arguments):
    parser = argparse.ArgumentParser()
    check.arguments(parser)
    return check.run(parser.parse_args([str(argument) for argument in arguments]))


def codes(text):
    return set(re.findall(r"\[([KL]\d+(?: warning)?)\]", text))


def test_valid_specs_give_one_line_each(capsys):
    assert run(*EXAMPLES) == 0

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(EXAMPLES)
    assert lines[0].endswith(
        "llama-405b.yaml: valid: llama-405b: 1 group of 3 nodes with 8 GPUs each (24 in all), "
        "Service llama-405b-api in ai-inference"
    )


def test_bad_specs_give_one_line_each_and_exit_2(capsys):
    assert run(*BAD) == 2

    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [str(path) for path in BAD]


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_each_bad_spec_alone_exits_2(path, capsys):
    assert run(path) == 2
    assert capsys.readouterr().err == ""


def test_one_bad_file_does_not_hide_the_others(tmp_path, capsys):
    missing = tmp_path / "none.yaml"

    assert run(EXAMPLES[0], missing, EXAMPLES[1]) == 2
    assert [": valid: " in line for line in capsys.readouterr().out.splitlines()] == [True, False, True]


def test_a_file_that_is_named_twice_is_no_collision(capsys):
    assert run(EXAMPLES[0], EXAMPLES[0]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_files_that_collide_exit_2(tmp_path, capsys):
    copy = tmp_path / "copy.yaml"
    copy.write_text(Path(EXAMPLES[0]).read_text())

    assert run(EXAMPLES[0], copy) == 2
    assert f"{EXAMPLES[0]} rolls out a model of this name" in capsys.readouterr().out


def test_warnings_about_a_spec_are_said_once_and_leave_it_valid(tmp_path, capsys):
    spec = yaml.safe_load(Path(EXAMPLES[0]).read_text())
    spec["server"]["network"]["nccl_env"] = {"NCCL_IB_TC": "106"}
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(spec))

    assert run(path) == 0
    warning, valid = capsys.readouterr().out.splitlines()
    assert warning.startswith(f'{path}: server.network.nccl_env.NCCL_IB_TC: value "106": [K9 warning] DSCP 26')
    assert ": valid: " in valid


def test_a_manifest_with_every_known_defect_gets_every_code(tmp_path, capsys):
    path = tmp_path / "article.yaml"
    path.write_text(f"{ARTICLE}---{NETWORK}")

    assert run(path) == 2
    found = codes(capsys.readouterr().out)
    errors = {code for code in found if "warning" not in code}
    networks = {"K1", "K2", "K3", "K4", "K5", "K6", "K7", "K8", "K10"}
    groups = {"L1", "L4", "L5", "L6", "L7", "L8", "L9", "L10", "L11", "L12", "L13", "L14"}
    assert errors == networks | groups
    assert found - errors == {"K9 warning", "K11 warning", "L14 warning", "L15 warning"}


def test_manifests_in_different_files_are_seen_together_and_told_apart(tmp_path, capsys):
    group, network = tmp_path / "group.yaml", tmp_path / "network.yaml"
    group.write_text(ARTICLE)
    network.write_text(NETWORK)

    assert run(group, network) == 2
    lines = capsys.readouterr().out.splitlines()
    assert codes("\n".join(line for line in lines if line.startswith(str(network)))) == {"K1", "K2"}
    assert any("add k8s.v1.cni.cncf.io/networks: fast" in line for line in lines if line.startswith(str(group)))


def test_manifests_without_defects_are_valid(capsys):
    assert run(*(path for path in GOLDEN if path.stem not in {"leader_worker_set_ray", "autoscaler"})) == 0
    assert all(line.endswith(": no known defect") for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("apiVersion: v1\nkind: Service\n---\nname: x\n", "document 2 has no apiVersion and kind"),
        ("apiVersion: v1\nkind: List\nitems: 3\n", "document 1 has no apiVersion and kind"),
        ("apiVersion: v1\nkind: List\nitems: [3]\n", "document 1 has no apiVersion and kind"),
        (f"{GROUP}leaderTemplate: {{spec: {{containers: 3}}}}\n", "not shaped as its kind demands"),
        (f"{GROUP}leaderTemplate: {{spec: {{containers: [{{args: 7}}]}}}}\n", "not shaped as its kind demands"),
        ("apiVersion: x\nkind: LeaderWorkerSet\nkind: Service\n", "stands twice"),
    ],
)
def test_misshapen_manifests_give_one_clear_line(text, says, tmp_path, capsys):
    path = tmp_path / "manifests.yaml"
    path.write_text(text)

    assert run(path) == 2
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert says in lines[0]


def test_the_schema_is_the_spec_models(capsys):
    assert run("--schema") == 0
    assert json.loads(capsys.readouterr().out) == RolloutSpec.model_json_schema()


def test_no_file_is_a_usage_error(capsys):
    assert run() == 2
    assert "no FILE given" in capsys.readouterr().err
