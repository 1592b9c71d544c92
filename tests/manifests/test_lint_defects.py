"""One file for each defect: found by its code alone, and gone once the finding's corrected lines are in their place."""

import copy
import json
import re
from pathlib import Path

import pytest
import yaml

from llm_rollout.checking import check
from llm_rollout.fabric.lint import lint as rdma_lint
from llm_rollout.fabric.lint import recognised
from llm_rollout.manifests.canary_job import canary_job
from llm_rollout.manifests.fabric_job import fabric_job
from llm_rollout.manifests.findings import is_env_block, manifest_name
from llm_rollout.manifests.leader_worker_set import leader_worker_set
from llm_rollout.manifests.lint import lint
from llm_rollout.manifests.pod_monitor import pod_monitor
from llm_rollout.manifests.service import service
from llm_rollout.manifests.stage_job import stage_job
from llm_rollout.spec_loading import load_spec
from llm_rollout.spec_yaml import read_documents

FOLDER = Path(__file__).parent / "defects"
ROLLOUTS = sorted((Path(__file__).parents[2] / "include/rollouts").glob("*.yaml"))
DEFECTS = sorted(path for path in FOLDER.glob("*.yaml") if re.match(r"[KL]\d", path.stem))
SOUND = sorted(FOLDER.glob("sound*.yaml"))
WARNINGS = {
    "K2_claim_of_an_unknown_driver",
    "K2_pairing_that_nobody_documents",
    "K7_gid_index_of_an_old_nccl",
    "K9_traffic_class",
    "K11_queue_pairs",
    "L14_autoscaler_that_assumes_an_adapter",
    "L15_one_replica_changed_in_place",
    "L15_requests_aborted_at_the_end",
    "L16_service_on_every_revision",
}
NO_LINES_CAN_TELL = {
    "K2_claim_of_an_unknown_driver",
    "K2_pairing_that_nobody_documents",
    "K7_gid_index_of_an_old_nccl",
}
"""What is right there is known to the nodes alone: these findings carry no corrected lines."""
PAIRINGS = {
    "sound": "shared device plugin with macvlan",
    "sound_dra": "DRA (DraNet)",
    "sound_host_device": "SR-IOV device plugin with host-device",
    "sound_ipoib": "shared device plugin with IPoIB",
    "sound_sriov": "SR-IOV device plugin with the SR-IOV CNI",
}
MOST_CORRECTIONS = 100
KEYS = {"name", "mountPath"}
"""What items of lists are matched by."""


def manifests_of(path):
    return [document.value for document in read_documents(path)]


def findings_of(manifests):
    return [*lint(manifests), *rdma_lint(manifests)]


def corrected(manifests, text):
    """The manifests with a finding's corrected lines put where their first comment says."""
    manifests = copy.deepcopy(manifests)
    for part in re.split(r"^---$", text, flags=re.MULTILINE):
        how, name, path = re.match(r"\n?# (in|beside|instead of) (env block|\S+/\S+) ?(.*)\n", part).groups()
        lines = yaml.safe_load(part)
        if how == "in":
            merge(block(next(one for one in manifests if manifest_name(one) == name), path), lines)
            continue
        gone = {name} if how == "instead of" else {manifest_name(lines)}
        manifests = [one for one in manifests if manifest_name(one) not in gone] + [lines] * (lines is not None)
    return manifests


def block(manifest, path):
    for key, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
        manifest = manifest[int(index)] if index else manifest.setdefault(key, {})
    return manifest


def merge(into, lines):
    """A strategic merge patch, as far as corrections use it."""
    for key, value in lines.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        elif isinstance(value, list) and all(isinstance(one, dict) and KEYS & one.keys() for one in value):
            into[key] = merged(into.get(key) or [], value)
        else:
            into[key] = value


def merged(items, changes):
    items = list(items)
    for change in changes:
        keys = KEYS & change.keys()
        same = next((one for one in items if any(change[key] == one.get(key) for key in keys)), None)
        if change.get("$patch") == "delete":
            items.remove(same)
        elif same is None:
            items.append(change)
        else:
            merge(same, change)
    return items


@pytest.mark.parametrize("path", DEFECTS, ids=lambda path: path.stem)
def test_each_defect_is_found_by_its_code_alone(path):
    found = findings_of(manifests_of(path))

    severity = "warning" if path.stem in WARNINGS else "error"
    assert {(one.code, one.severity) for one in found} == {(path.stem.partition("_")[0], severity)}
    assert all(one.message and one.fix for one in found)
    assert all(bool(one.corrected) is (path.stem not in NO_LINES_CAN_TELL) for one in found)


@pytest.mark.parametrize("path", [path for path in DEFECTS if path.stem not in NO_LINES_CAN_TELL], ids=lambda p: p.stem)
def test_each_defect_is_gone_with_the_corrected_lines(path):
    manifests = manifests_of(path)
    for finding in findings_of(manifests):
        manifests = corrected(manifests, finding.corrected)

    assert findings_of(manifests) == []


def test_all_defects_together_are_all_found_and_go_one_by_one():
    manifests = manifests_of(FOLDER / "all.yaml")
    every = {f"K{number}" for number in range(12)} | {f"L{number}" for number in range(1, 17)}
    assert {finding.code for finding in findings_of(manifests)} == every

    for _ in range(MOST_CORRECTIONS):
        found = findings_of(manifests)
        if not found:
            break
        manifests = corrected(manifests, found[0].corrected)

    assert findings_of(manifests) == []
    assert recognised(manifests) == {
        "LeaderWorkerSet/big": "RDMA of LeaderWorkerSet/big leader and worker: shared device plugin with macvlan"
    }
    assert not any(is_env_block(manifest) for manifest in manifests)


@pytest.mark.parametrize("path", SOUND, ids=lambda path: path.stem)
def test_documented_pairings_are_recognised_and_have_no_findings(path):
    report = check([path])

    pairing = f"RDMA of LeaderWorkerSet/chat leader and worker: {PAIRINGS[path.stem]}"
    assert str(report).splitlines() == [f"{path}: {pairing}", f"{path}: no known defect"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("K2_pairing_that_nobody_documents", "nvidia.com/hostdev (an exclusive resource) with the CNI macvlan"),
        ("K2_claim_of_an_unknown_driver", "device class dranet does not say that its driver is dra.net"),
    ],
)
def test_an_unknown_pairing_says_what_is_unknown(name, says):
    manifests = manifests_of(FOLDER / f"{name}.yaml")

    assert all(f"unknown pairing of device and network: {says}" in one.message for one in findings_of(manifests))
    assert recognised(manifests) == {}


@pytest.mark.parametrize("path", ROLLOUTS, ids=lambda path: path.stem)
def test_what_specs_render_is_clean_with_its_networks_and_nodes(path, make_plan):
    spec = load_spec(path)
    plan = make_plan(spec)
    manifests = [
        leader_worker_set(spec, plan),
        service(spec, plan.revision_id),
        stage_job(spec, plan.commit, "run/1"),
        *fabric_job(spec, plan.nodes, "run/1"),
        canary_job(spec, plan, "run", "run/1"),
        pod_monitor(spec),
    ]
    networks, nodes = surroundings(spec)

    assert findings_of([*manifests, *networks, *nodes]) == []
    told = set(recognised([*manifests, *networks]).values())
    assert all(one.endswith("shared device plugin with macvlan") for one in told)
    assert bool(told) is bool(networks)


def surroundings(spec):
    resource = spec.server.network.rdma_resource
    networks = [
        {
            "apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition",
            "metadata": {
                "name": name,
                "namespace": spec.namespace,
                "annotations": {"k8s.v1.cni.cncf.io/resourceName": resource},
            },
            "spec": {"config": json.dumps({"type": "macvlan", "master": f"ens{rail}f0np0"})},
        }
        for rail, name in enumerate(spec.server.network.attachments)
    ]
    nodes = [{"kind": "Node", "metadata": {"name": "n"}, "status": {"allocatable": {resource: "63"}}}]
    return networks, nodes


def test_a_spec_is_checked_with_the_networks_that_are_given_beside_it(tmp_path):
    llama = next(path for path in ROLLOUTS if path.stem == "llama-405b")
    networks, _ = surroundings(load_spec(llama))
    beside = tmp_path / "networks.yaml"
    beside.write_text(yaml.safe_dump_all(networks))

    lines = str(check([llama, beside])).splitlines()
    assert re.search(r"RDMA of LeaderWorkerSet/llama-405b-\w+ leader and worker: shared device plugin", lines[0])

    beside.write_text(
        yaml.safe_dump_all({**one, "metadata": {**one["metadata"], "namespace": "x"}} for one in networks)
    )
    report = check([llama, beside])
    assert report.failed == {llama}
    assert "[K3] the network is in namespace x" in str(report)


def test_the_monitor_that_replaces_a_service_monitor_looks_at_the_leaders_alone():
    manifests = manifests_of(FOLDER / "L13_service_monitor_on_the_group.yaml")
    (finding,) = findings_of(manifests)

    monitor = corrected(manifests, finding.corrected)[-1]
    assert (monitor["kind"], monitor["metadata"]) == ("PodMonitor", {"name": "chat", "namespace": "ai"})
    lws = "leaderworkerset.sigs.k8s.io"
    assert monitor["spec"] == {
        "selector": {"matchLabels": {f"{lws}/name": "chat", f"{lws}/worker-index": "0"}},
        "podMetricsEndpoints": [{"port": "http", "path": "/metrics", "interval": "15s"}],
    }
