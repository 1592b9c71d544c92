import time
from pathlib import Path

import pytest

from llm_rollout.fabric.reading import read

SAMPLES = Path(__file__).parent / "samples"
LOG_BYTES = 50_000_000
LOG_SECONDS = 60
"""Measured: 2 to 5 seconds. A pattern that looks back over the whole text takes hours."""


def sample(name):
    return (SAMPLES / name).read_text()


def outcome(text):
    told = read(text.encode())
    return told.status, told.error_class


def test_a_device_named_rxe_makes_every_tool_say_soft_roce():
    for name in ("perftest_write_bw_gbits.txt", "nccl_log_roce.txt", "ibv_devinfo_roce.txt", "show_gids_roce.txt"):
        assert read(sample(name).replace("mlx5_", "rxe").encode()).transport == "soft-roce"


@pytest.mark.parametrize("name", ["perftest_write_bw_gbits.txt", "nccl_log_ib.txt", "ibv_devinfo_roce.txt"])
def test_what_a_stand_in_printed_is_neither_ib_nor_roce(name):
    assert read(("SIMULATED (devcluster)\n" + sample(name)).encode()).transport == "other"


def test_the_greatest_deviation_of_old_versions_is_not_a_count_of_wrong_values():
    assert "5e-07" in sample("nccl_tests_old_all_reduce.txt")
    assert outcome(sample("nccl_tests_old_all_reduce.txt")) == ("ok", None)
    assert outcome(sample("nccl_tests_all_reduce.txt").replace("     0  ", "     1  ", 1)) == ("failed", "wrong-data")


def test_a_plugin_that_finds_no_device_before_nccl_finds_one_is_no_failure():
    text = sample("nccl_log_plugin.txt")
    assert "NET/IB : No device found." in text
    assert outcome(text) == ("ok", None)


def test_versions_that_open_sockets_beside_their_devices_are_not_taken_for_sockets():
    line = "gpu-017:20100:20400 [0] NCCL INFO NET/Socket : Using [0]eth0:10.20.0.17<0>\n"
    assert outcome(line + sample("nccl_log_roce.txt")) == ("ok", None)
    assert outcome(line.replace("gpu-017", "gpu-099") + sample("nccl_log_roce.txt")) == ("failed", "socket-fallback")


def test_a_driver_that_the_machine_lacks_is_noise():
    line = "libibverbs: Warning: couldn't load driver 'libcxgb4-rdmav34.so': cannot open shared object file\n"
    assert outcome(line + sample("perftest_write_bw_gbits.txt")) == ("ok", None)


def test_a_retry_of_the_queue_pair_that_is_not_the_last_is_noise():
    line = "h:1:2 [0] NCCL INFO Call to ibv_modify_qp failed with 110 Connection timed out, on dev 0, retrying 1/3\n"
    assert outcome(sample("nccl_log_roce.txt") + line) == ("ok", None)
    assert outcome(sample("nccl_log_roce.txt") + line.replace(", retrying 1/3", "")) == ("failed", "gid")


@pytest.mark.parametrize(("of", "instead"), [("average[Gb/sec]", "average[Xb/sec]"), ("#bytes ", "#bytes2 ")])
def test_a_table_whose_unit_or_size_cannot_be_read_is_not_whole(of, instead):
    text = sample("perftest_write_bw_gbits.txt")
    assert outcome(text.replace(of, instead)) == ("unreadable", "truncated")


def test_lines_that_launchers_tag_are_read():
    text = sample("nccl_tests_all_reduce.txt")
    tagged = "".join(f"[1,0]<stdout>:{line}" for line in text.splitlines(keepends=True))
    stamped = "".join(f"2026-11-20T10:00:00.123456789Z {line}" for line in text.splitlines(keepends=True))
    assert read(tagged.encode()) == read(stamped.encode()) == read(text.encode())


def test_of_several_tables_the_worst_row_counts_and_each_needs_its_footer():
    good = sample("nccl_tests_all_reduce.txt")
    slow = good.replace("452.77", "301.50")
    assert read((good + slow).encode()).gate.value == 301.5
    assert outcome(good + slow[: slow.index("# Out of bounds")]) == ("unreadable", "truncated")


@pytest.mark.parametrize("name", ["nccl_log_roce.txt", "nccl_log_socket.txt", "nccl_log_timeout_new.txt"])
def test_a_log_of_50_megabytes_takes_seconds(name):
    text = (SAMPLES / name).read_bytes()
    log = text * (LOG_BYTES // len(text))
    begun = time.monotonic()
    told = read(log)

    assert time.monotonic() - begun < LOG_SECONDS
    assert told.status == read(text).status
