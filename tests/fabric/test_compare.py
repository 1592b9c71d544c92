import pytest

from llm_rollout.fabric.compare import findings
from llm_rollout.fabric.inventory import Gid, Member, Port
from llm_rollout.fabric.pod import Attachment, Pod

V1, V2 = Gid(0, 1, "", "net1"), Gid(1, 2, "", "net1")
IPV4_V1, IPV4_V2 = Gid(2, 1, "10.0.0.1", "net1"), Gid(3, 2, "10.0.0.1", "net1")
USUAL = (V1, V2, IPV4_V1, IPV4_V2)
SHIFTED = (
    V1,
    V2,
    Gid(2, 1, "", "net1"),
    Gid(3, 2, "", "net1"),
    Gid(4, 1, "10.0.0.2", "net1"),
    Gid(5, 2, "10.0.0.2", "net1"),
)


def _port(hca="mlx5_0", **changes):
    given = {"transport": "rdma", "state": "ACTIVE", "rate_gbps": 400.0, "link_layer": "Ethernet", "mtu_bytes": 4096}
    return Port(hca=hca, **(given | changes))


def _member(node, port=None, **pod):
    port = port or _port()
    return Member(node, {port.hca: port}, "", Pod(**pod))


def _members(**ports):
    return [Member(node.replace("_", "-"), {port.hca: port for port in of_node}) for node, of_node in ports.items()]


def test_equal_active_ports_are_fine():
    assert findings(_members(a=[_port(gids=USUAL)], b=[_port(gids=USUAL)]), ["mlx5_0"], 3) == []


@pytest.mark.parametrize(
    ("ports", "severity", "said"),
    [
        ([_port(state="DOWN")], "bad", "mlx5_0: port is DOWN, not ACTIVE"),
        ([_port(hca="mlx5_9")], "bad", "mlx5_0: no such device; there is mlx5_9"),
        ([], "bad", "there is none"),
        ([_port(rate_gbps=200.0)], "bad", "port rate 200 Gb/s, others 400 Gb/s"),
        ([_port(mtu_bytes=1024)], "warn", "active MTU 1024, others 4096"),
    ],
)
def test_what_differs_on_one_node_names_its_nic_and_the_remedy(ports, severity, said):
    (finding,) = findings(_members(node_1=[_port()], node_2=ports, node_3=[_port()]), ["mlx5_0"])
    assert (finding.kind, finding.name, finding.severity) == ("nic", "node-2", severity)
    assert said in finding.detail
    assert finding.remedy


def test_mixed_link_layers_are_a_setting():
    (finding,) = findings(_members(a=[_port()], b=[_port(link_layer="InfiniBand")]), ["mlx5_0"])
    assert (finding.kind, finding.severity) == ("setting", "bad")


def test_node_whose_ports_could_not_be_read_is_not_called_bad():
    assert findings([Member("a", {}, "ibv_devinfo cannot be started")], ["mlx5_0"]) == []


@pytest.mark.parametrize(
    ("gids", "index", "said"),
    [
        ((V1, V2), None, "no GID of RoCE v2 with an IPv4 address"),
        ((V1, V2), 3, "no GID of RoCE v2 with an IPv4 address"),
        (SHIFTED, 3, "GID index 3 is RoCE v2 without IPv4; RoCE v2 with IPv4 is index 5"),
        (SHIFTED[4:], 3, "GID index 3 is empty; RoCE v2 with IPv4 is index 5"),
        (USUAL, 2, "GID index 2 is RoCE v1 10.0.0.1; RoCE v2 with IPv4 is index 3"),
    ],
)
def test_gid_that_cannot_be_reached_names_the_nic(gids, index, said):
    others = {2: (*SHIFTED[:2], Gid(2, 2, "10.0.0.3", "net1"))}.get(index, USUAL)
    (finding,) = findings(_members(a=[_port(gids=others)], b=[_port(gids=gids)]), ["mlx5_0"], index)
    assert (finding.kind, finding.name, finding.severity) == ("nic", "b", "bad")
    assert said in finding.detail


def test_gid_index_that_is_wrong_everywhere_is_one_setting():
    (finding,) = findings(_members(a=[_port(gids=SHIFTED)], b=[_port(gids=SHIFTED)]), ["mlx5_0"], 3)
    assert (finding.kind, finding.name) == ("setting", "NCCL_IB_GID_INDEX=3")
    assert "NCCL_IB_GID_INDEX" in finding.remedy


@pytest.mark.parametrize("port", [_port(gids=()), _port(gids=(V1,), link_layer="InfiniBand")])
def test_gids_that_were_not_read_or_are_of_infiniband_say_nothing(port):
    assert findings(_members(a=[port], b=[port]), ["mlx5_0"], 3) == []


@pytest.mark.parametrize(
    ("pod", "said"),
    [
        ({"can_lock_memory": False, "memlock_bytes": 8 * 2**20}, "no IPC_LOCK, and only 8192 KiB may be locked"),
        ({"device_files": ("rdma_cm",)}, "no /dev/infiniband/uverbs* in the pod"),
        (
            {"networks": ("rail-0", "rail-1", "rail-1"), "attachments": (Attachment("rail-1", "net1", (), 1500),)},
            "network-status lists no rail-0, rail-1",
        ),
    ],
)
def test_what_a_pod_was_not_given_names_its_node(pod, said):
    (finding,) = findings([_member("a"), _member("b", **pod)], ["mlx5_0"])
    assert (finding.kind, finding.name, finding.severity) == ("node", "b", "bad")
    assert said in finding.detail
    assert finding.remedy


@pytest.mark.parametrize(
    "pod",
    [
        {},
        {"can_lock_memory": False, "memlock_bytes": -1},
        {"can_lock_memory": False, "memlock_bytes": None},
        {"can_lock_memory": None, "memlock_bytes": 0},
        {"can_lock_memory": True, "memlock_bytes": 0},
        {"networks": ("rail-0",), "attachments": None},
        {"device_files": ("rdma_cm", "uverbs0")},
    ],
)
def test_what_a_pod_has_otherwise_or_could_not_be_read_is_never_bad(pod):
    assert findings([_member("a"), _member("b", **pod)], ["mlx5_0"]) == []


def test_simulated_ports_need_neither_locked_memory_nor_device_files():
    nothing = {"can_lock_memory": False, "memlock_bytes": 0, "device_files": ()}
    assert findings([_member("a", _port(transport="simulated"), **nothing)], ["mlx5_0"]) == []
