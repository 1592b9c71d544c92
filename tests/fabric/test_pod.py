import json

import pytest

from llm_rollout.fabric.pod import Attachment, asked_for, attachments, can_lock_memory, read

LOCK, NONE = "0000000000004000", "0000000000000000"
STATUS = json.dumps([
    {"name": "cbr0", "interface": "eth0", "ips": ["10.244.1.4"], "default": True, "dns": {}},
    {"name": "ai-inference/rail-0", "interface": "net1", "ips": ["192.168.100.7"], "mtu": 4200},
    {"name": "ai-inference/rail-1", "interface": "net2", "dns": {}},
])  # fmt: skip


@pytest.mark.parametrize(
    ("effective", "bounding", "forbidden", "can"),
    [(LOCK, LOCK, "0", True), (NONE, LOCK, "0", True), (NONE, LOCK, "1", False), (NONE, NONE, "0", False)],
)
def test_ipc_lock_may_come_from_the_program_file(effective, bounding, forbidden, can):
    status = f"Name:\tpython\nCapPrm:\t{NONE}\nCapEff:\t{effective}\nCapBnd:\t{bounding}\nNoNewPrivs:\t{forbidden}\n"
    assert can_lock_memory(status) is can


def test_status_without_capabilities_says_nothing():
    assert can_lock_memory("Name:\tpython\n") is None


@pytest.mark.parametrize(
    ("annotation", "names"),
    [
        ("", ()),
        ("rail-0,rail-1", ("rail-0", "rail-1")),
        (" ns/rail-0@net1 , rail-1", ("rail-0", "rail-1")),
        ('[{"name": "rail-0", "interface": "net1"}, {"name": "rail-1"}]', ("rail-0", "rail-1")),
        ("[{", ()),
    ],
)
def test_both_forms_of_the_networks_annotation_are_read(annotation, names):
    assert asked_for(annotation) == names


def test_status_names_what_multus_attached_beside_the_cluster_network():
    assert attachments(STATUS) == (
        Attachment("rail-0", "net1", ("192.168.100.7",), 4200),
        Attachment("rail-1", "net2", (), None),
    )


@pytest.mark.parametrize("annotation", ["", "{", "[1]", '[{"interface": "net1"}]', "3"])
def test_status_that_is_not_there_or_makes_no_sense_says_nothing(annotation):
    assert attachments(annotation) is None


def test_pod_is_read_from_the_files_of_its_node_and_its_annotations(tmp_path):
    (tmp_path / "dev/infiniband").mkdir(parents=True)
    (tmp_path / "dev/infiniband/uverbs0").touch()
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/status").write_text(f"CapEff:\t{LOCK}\nCapBnd:\t{LOCK}\n")
    (tmp_path / "networks").write_text("rail-0")
    (tmp_path / "network-status").write_text(STATUS)
    pod = read(tmp_path, tmp_path)
    assert (pod.can_lock_memory, pod.device_files, pod.networks) == (True, ("uverbs0",), ("rail-0",))
    assert [attached.interface for attached in pod.attachments] == ["net1", "net2"]
    assert "lo" in pod.interfaces


def test_pod_without_those_files_has_no_devices_and_unknown_attachments(tmp_path):
    pod = read(None, tmp_path)
    assert (pod.can_lock_memory, pod.device_files, pod.networks, pod.attachments) == (None, (), (), None)
