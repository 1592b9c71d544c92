import json
from dataclasses import asdict

import pytest

from llm_rollout.fabric.inventory import Gid, Member, Port, member_from_json, parse, transport
from llm_rollout.fabric.pod import Attachment, Pod

DEVINFO = """\
hca_id:\tmlx5_0
\ttransport:\t\t\tInfiniBand (0)
\tfw_ver:\t\t\t\t28.39.1002
\tnode_guid:\t\t\tdead:beef:0000:0001
\tphys_port_cnt:\t\t\t1
\tdevice_cap_flags:\t\t0xa5321c36
\t\t\t\t\tBAD_PKEY_CNTR
\t\tport:\t1
\t\t\tstate:\t\t\tPORT_ACTIVE (4)
\t\t\tmax_mtu:\t\t4096 (5)
\t\t\tactive_mtu:\t\t4096 (5)
\t\t\tlink_layer:\t\tEthernet
\t\t\tactive_width:\t\t4X (2)
\t\t\tactive_speed:\t\t{speed}
\t\t\tphys_state:\t\tLINK_UP (5)
\t\t\tGID[  3]:\t\t::ffff:10.0.0.1, RoCE v2

hca_id:\tsiw0
\ttransport:\t\t\tiWARP (1)
\t\tport:\t1
\t\t\tstate:\t\t\tPORT_DOWN (1)
\t\t\tactive_mtu:\t\t1024 (3)
\t\t\tlink_layer:\t\tEthernet
"""


def _port(hca="mlx5_0", **changes):
    given = {"transport": "rdma", "state": "ACTIVE", "rate_gbps": 400.0, "link_layer": "Ethernet", "mtu_bytes": 4096}
    return Port(hca=hca, **(given | changes))


@pytest.mark.parametrize(
    ("speed", "rate"), [("100.0 Gbps (128)", 400.0), ("invalid speed (128)", 400.0), ("25.0 Gbps (32)", 100.0)]
)
def test_rate_is_width_times_lane_speed_also_where_the_name_is_unknown(speed, rate):
    assert parse(DEVINFO.format(speed=speed))["mlx5_0"] == _port(rate_gbps=rate)


def test_effective_speed_wins_where_it_is_printed():
    text = DEVINFO.format(speed="100.0 Gbps (128)\n\t\t\teffective_speed:\t200.0 Gbps")
    assert parse(text)["mlx5_0"].rate_gbps == 200.0


def test_iwarp_counts_as_tcp_and_an_unknown_rate_stays_unknown():
    port = parse(DEVINFO.format(speed="x"))["siw0"]
    assert (port.transport, port.state, port.rate_gbps, port.mtu_bytes) == ("tcp", "DOWN", None, 1024)


@pytest.mark.parametrize(
    "change", [("hca_id:\tmlx5_0", "hca_id:\trxe0"), ("fw_ver:\t", "vendor_id:\t\t\t0XFFFFFF\n\tfw_ver:\t")]
)
def test_soft_roce_which_says_infiniband_counts_as_tcp(change):
    port = next(iter(parse(DEVINFO.format(speed="2.5 Gbps (1)").replace(*change)).values()))
    assert port.transport == "tcp"


def test_simulated_transport_is_typed():
    text = DEVINFO.format(speed="x").replace("InfiniBand (0)", "SIMULATED (devcluster)")
    assert parse(text)["mlx5_0"].transport == "simulated"


def _members(**ports):
    return [Member(node.replace("_", "-"), {port.hca: port for port in of_node}) for node, of_node in ports.items()]


def test_own_interface_wins_over_other_gids_of_the_same_kind():
    gids = (Gid(1, 2, "", "net1"), Gid(3, 2, "10.0.0.1", "ens1"), Gid(5, 2, "10.0.0.2", "net1"))
    port = _port(gids=gids)
    assert port.gid_index(["eth0", "net1"]) == 5
    assert port.gid_index(["eth0"]) == 3
    assert _port(gids=gids[:1]).gid_index(["net1"]) is None


def test_member_survives_the_wire():
    gids = (Gid(3, 2, "10.0.0.1", "net1"),)
    pod = Pod(True, -1, ("uverbs0",), ("rail-0",), (Attachment("rail-0", "net1", ("10.0.0.1",), 4200),), ("lo",))
    member = Member("a", {"mlx5_0": _port(gids=gids)}, "", pod)
    assert member_from_json(json.loads(json.dumps(asdict(member)))) == member


def test_weakest_transport_counts():
    rdma, simulated, tcp = (_port(transport=kind) for kind in ("rdma", "simulated", "tcp"))
    assert transport(_members(a=[rdma], b=[rdma]), ["mlx5_0"]) == "rdma"
    assert transport(_members(a=[rdma], b=[tcp]), ["mlx5_0"]) == "tcp"
    assert transport(_members(a=[tcp], b=[simulated]), ["mlx5_0"]) == "simulated"
