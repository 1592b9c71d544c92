import pytest

from llm_rollout.fabric.inventory import Gid, Port
from llm_rollout.fabric.sysfs import counters, risen, with_gids

ZERO = "0000:0000:0000:0000:0000:0000:0000:0000"
MAPPED = "0000:0000:0000:0000:0000:ffff:c0a8:640b"
LOCAL = "fe80:0000:0000:0000:0000:00ff:fe00:0001"


@pytest.fixture
def port(tmp_path):
    folder = tmp_path / "mlx5_0/ports/1"
    for name in ("gids", "gid_attrs/types", "gid_attrs/ndevs", "counters", "hw_counters"):
        (folder / name).mkdir(parents=True)
    return folder


def _entry(port, index, gid, kind=None, net_device=None):
    (port / f"gids/{index}").write_text(f"{gid}\n")
    for name, value in (("types", kind), ("ndevs", net_device)):
        if value is not None:
            (port / f"gid_attrs/{name}/{index}").write_text(f"{value}\n")


def _gids(tmp_path, hca="mlx5_0"):
    port = Port(hca, "rdma", "ACTIVE", 400.0, "Ethernet", 4096)
    return with_gids({hca: port}, tmp_path)[hca].gids


def test_roce_table_is_read_in_order_without_empty_entries(port, tmp_path):
    _entry(port, 10, MAPPED, "RoCE v2", "net1")
    _entry(port, 2, MAPPED, "IB/RoCE v1", "net1")
    _entry(port, 0, LOCAL, "IB/RoCE v1", "net1")
    _entry(port, 1, ZERO)
    assert _gids(tmp_path) == (
        Gid(0, 1, "", "net1"),
        Gid(2, 1, "192.168.100.11", "net1"),
        Gid(10, 2, "192.168.100.11", "net1"),
    )


def test_entry_of_infiniband_has_no_roce_version(port, tmp_path):
    _entry(port, 0, LOCAL, "IB/RoCE v1")
    assert _gids(tmp_path) == (Gid(0, 0, "", ""),)


def test_entry_whose_kind_cannot_be_read_counts_as_not_read(port, tmp_path):
    _entry(port, 0, MAPPED)
    assert _gids(tmp_path) == ()
    assert _gids(tmp_path, "mlx5_9") == ()


def test_counters_that_are_there_are_read(port, tmp_path):
    (port / "counters/symbol_error").write_text("3\n")
    (port / "hw_counters/out_of_sequence").write_text("40\n")
    (port / "hw_counters/packet_seq_err").write_text("N/A (no PMA)\n")
    assert counters(["mlx5_0", "mlx5_9"], tmp_path) == {
        "mlx5_0": {"symbol_error": 3, "out_of_sequence": 40},
        "mlx5_9": {},
    }


def test_only_what_was_read_twice_and_rose_is_told():
    before = {"mlx5_0": {"a": 1, "b": 5, "gone": 1}, "mlx5_1": {"a": 1}}
    after = {"mlx5_0": {"a": 4, "b": 5, "new": 9}, "mlx5_1": {"a": 0}, "mlx5_2": {"a": 1}}
    assert risen(before, after) == {"mlx5_0": {"a": 3}}
