from pathlib import Path

import pytest

from llm_rollout.fabric.reading import ERROR_CLASSES, TOOLS, TRANSPORTS, read

SAMPLES = Path(__file__).parent / "samples"

EXPECTED = (
    # file, tool, status, error_class, transport, rows, the gate that is set
    ("ibv_devinfo_down.txt", "ibv_devinfo", "failed", "port", "roce", 2, {}),
    ("ibv_devinfo_none.txt", "ibv_devinfo", "failed", "no-device", None, 0, {}),
    ("ibv_devinfo_roce.txt", "ibv_devinfo", "ok", None, "roce", 2, {}),
    ("ibv_devinfo_rxe.txt", "ibv_devinfo", "ok", None, "soft-roce", 1, {}),
    ("ibv_devinfo_short_ib.txt", "ibv_devinfo", "ok", None, "ib", 1, {}),
    ("iperf3.json", "iperf3", "failed", "socket-fallback", "socket", 2, {}),
    ("iperf3.txt", "iperf3", "failed", "socket-fallback", "socket", 3, {}),
    ("iperf3_refused.json", "iperf3", "failed", "oob", "socket", 0, {}),
    ("iperf3_refused.txt", "iperf3", "failed", "oob", "socket", 0, {}),
    ("nccl_log_access.txt", "nccl-log", "failed", "access", "roce", 2, {}),
    ("nccl_log_flush.txt", "nccl-log", "failed", "flush", "roce", 2, {}),
    ("nccl_log_gid.txt", "nccl-log", "failed", "gid", "roce", 0, {}),
    ("nccl_log_ib.txt", "nccl-log", "ok", None, "ib", 2, {}),
    ("nccl_log_ifname.txt", "nccl-log", "failed", "ifname", None, 0, {}),
    ("nccl_log_ifname_then_socket.txt", "nccl-log", "failed", "ifname", "socket", 2, {}),
    ("nccl_log_image.txt", "nccl-log", "failed", "image", "socket", 1, {}),
    ("nccl_log_memlock.txt", "nccl-log", "failed", "memlock", None, 0, {}),
    ("nccl_log_no_gdr.txt", "nccl-log", "ok", "no-gdr", "roce", 4, {}),
    ("nccl_log_one_rank_missing.txt", "nccl-log", "unreadable", "truncated", "roce", 2, {}),
    ("nccl_log_oob.txt", "nccl-log", "failed", "oob", None, 0, {}),
    ("nccl_log_other_network.txt", "nccl-log", "ok", None, "other", 1, {}),
    ("nccl_log_plugin.txt", "nccl-log", "ok", None, "ib", 2, {}),
    ("nccl_log_port.txt", "nccl-log", "failed", "port", "roce", 2, {}),
    ("nccl_log_quiet.txt", "nccl-log", "ok", None, "rdma", 1, {}),
    ("nccl_log_roce.txt", "nccl-log", "ok", None, "roce", 2, {}),
    ("nccl_log_rxe.txt", "nccl-log", "ok", "no-gdr", "soft-roce", 2, {}),
    ("nccl_log_socket.txt", "nccl-log", "failed", "socket-fallback", "socket", 2, {}),
    ("nccl_log_socket_by_setting.txt", "nccl-log", "failed", "socket-fallback", "socket", 1, {}),
    ("nccl_log_timeout_and_flush.txt", "nccl-log", "failed", "timeout", "roce", 2, {}),
    ("nccl_log_timeout_new.txt", "nccl-log", "failed", "timeout", "roce", 2, {}),
    ("nccl_log_timeout_old.txt", "nccl-log", "failed", "timeout", "roce", 2, {}),
    ("nccl_tests_all_reduce.txt", "nccl-tests", "ok", None, None, 4, {"gate_busbw_gbytes": 452.77}),
    ("nccl_tests_all_reduce_below_minimum.txt", "nccl-tests", "failed", "other", None, 4, {}),
    ("nccl_tests_all_reduce_hang.txt", "nccl-tests", "failed", "timeout", None, 1, {}),
    ("nccl_tests_all_reduce_iterations.txt", "nccl-tests", "ok", None, None, 4, {"gate_busbw_gbytes": 452.77}),
    ("nccl_tests_all_reduce_nccl_failure.txt", "nccl-tests", "failed", "other", None, 1, {}),
    ("nccl_tests_all_reduce_no_footer.txt", "nccl-tests", "unreadable", "truncated", None, 4, {}),
    ("nccl_tests_all_reduce_no_gdr.txt", "nccl-tests", "ok", "no-gdr", "ib", 4, {"gate_busbw_gbytes": 205.8}),
    ("nccl_tests_all_reduce_one_rank_on_sockets.txt", "nccl-tests", "failed", "socket-fallback", "socket", 4, {}),
    ("nccl_tests_all_reduce_over_sockets.txt", "nccl-tests", "failed", "socket-fallback", "socket", 4, {}),
    ("nccl_tests_all_reduce_stamped.txt", "nccl-tests", "ok", None, None, 4, {"gate_busbw_gbytes": 452.77}),
    ("nccl_tests_all_reduce_unchecked.txt", "nccl-tests", "ok", None, None, 4, {"gate_busbw_gbytes": 452.77}),
    ("nccl_tests_all_reduce_with_log.txt", "nccl-tests", "ok", None, "roce", 4, {"gate_busbw_gbytes": 452.77}),
    ("nccl_tests_all_reduce_wrong.txt", "nccl-tests", "failed", "wrong-data", None, 4, {}),
    ("nccl_tests_no_gpus.txt", "nccl-tests", "failed", "other", None, 0, {}),
    ("nccl_tests_old_all_gather.txt", "nccl-tests", "ok", None, None, 2, {"gate_busbw_gbytes": 116.25}),
    ("nccl_tests_old_all_reduce.txt", "nccl-tests", "ok", None, None, 2, {"gate_busbw_gbytes": 120.78}),
    ("nccl_tests_out.json", "nccl-tests", "ok", None, None, 2, {"gate_busbw_gbytes": 452.77}),
    ("nccl_tests_out_closed_early.json", "nccl-tests", "unreadable", "truncated", None, 2, {}),
    ("nccl_tests_out_nan.json", "nccl-tests", "failed", "other", None, 2, {}),
    ("nccl_tests_out_wrong.json", "nccl-tests", "failed", "wrong-data", None, 2, {}),
    ("network_status.json", "network-status", "ok", None, None, 2, {}),
    ("network_status_of_a_pod.json", "network-status", "ok", None, None, 2, {}),
    ("perftest_atomic_bw.txt", "ib_atomic_bw", "ok", None, "ib", 1, {"gate_gbps": 0.210135}),
    ("perftest_atomic_lat.txt", "ib_atomic_lat", "ok", None, "ib", 1, {"gate_usec": 3.11}),
    ("perftest_read_bw.txt", "ib_read_bw", "ok", None, "ib", 1, {"gate_gbps": 196.1}),
    ("perftest_read_lat_duration.txt", "ib_read_lat", "ok", None, "ib", 1, {"gate_usec": 3.31}),
    ("perftest_read_lat_out.json", "ib_read_lat", "ok", None, "roce", 1, {"gate_usec": 2.71}),
    ("perftest_send_bw_out_qos.json", "ib_send_bw", "ok", None, "roce", 1, {"gate_gbps": 97.83}),
    ("perftest_send_lat_old.txt", "ib_send_lat", "ok", None, "ib", 1, {"gate_usec": 1.36}),
    ("perftest_send_lat_sweep.txt", "ib_send_lat", "ok", None, "ib", 12, {"gate_usec": 1.72}),
    ("perftest_write_bw_access_one_way.txt", "ib_write_bw", "failed", "access", "roce", 0, {}),
    ("perftest_write_bw_below_limit.txt", "ib_write_bw", "failed", "other", "roce", 1, {}),
    ("perftest_write_bw_bidirectional.txt", "ib_write_bw", "ok", None, "roce", 1, {"gate_gbps": 385.21}),
    ("perftest_write_bw_both_ends.txt", "ib_write_bw", "ok", None, "roce", 2, {"gate_gbps": 389.93}),
    ("perftest_write_bw_cpu.txt", "ib_write_bw", "ok", None, "roce", 1, {"gate_gbps": 389.9}),
    ("perftest_write_bw_flush.txt", "ib_write_bw", "failed", "flush", "roce", 0, {}),
    ("perftest_write_bw_gbits.txt", "ib_write_bw", "ok", None, "roce", 1, {"gate_gbps": 391.27}),
    ("perftest_write_bw_gdr_missing.txt", "perftest", "failed", "gdr-missing", None, 0, {}),
    ("perftest_write_bw_gid.txt", "ib_write_bw", "failed", "gid", "roce", 0, {}),
    ("perftest_write_bw_iwarp.txt", "ib_write_bw", "ok", None, "other", 1, {"gate_gbps": 92.1}),
    ("perftest_write_bw_memlock.txt", "perftest", "failed", "memlock", None, 0, {}),
    ("perftest_write_bw_mib_quiet.txt", "ib_write_bw", "ok", None, "roce", 1, {"gate_gbps": 92.484739}),
    ("perftest_write_bw_no_device.txt", "perftest", "failed", "no-device", None, 0, {}),
    ("perftest_write_bw_old_mb.txt", "ib_write_bw", "ok", None, "ib", 1, {"gate_gbps": 50.587668}),
    ("perftest_write_bw_oob.txt", "perftest", "failed", "oob", None, 0, {}),
    ("perftest_write_bw_out.json", "ib_write_bw", "ok", None, "roce", 1, {"gate_gbps": 391.27}),
    ("perftest_write_bw_out_mib.json", "ib_write_bw", "ok", None, "roce", 1, {"gate_gbps": 92.484739}),
    ("perftest_write_bw_out_no_rate.json", "ib_write_bw", "ok", None, "roce", 1, {}),
    ("perftest_write_bw_out_old.json", "ib_write_bw", "ok", None, "ib", 1, {"gate_gbps": 195.25}),
    ("perftest_write_bw_peer_gone.txt", "ib_write_bw", "failed", "oob", "roce", 0, {}),
    ("perftest_write_bw_port_down.txt", "perftest", "failed", "port", None, 0, {}),
    ("perftest_write_bw_qos.txt", "ib_send_bw", "ok", None, "roce", 1, {"gate_gbps": 97.83}),
    ("perftest_write_bw_rows_then_silence.txt", "ib_write_bw", "unreadable", "truncated", "ib", 23, {}),
    ("perftest_write_bw_rxe.txt", "ib_write_bw", "ok", None, "soft-roce", 1, {"gate_gbps": 8.97}),
    ("perftest_write_bw_server.txt", "ib_write_bw", "ok", None, "roce", 1, {"gate_gbps": 391.27}),
    ("perftest_write_bw_simulated.txt", "ib_write_bw", "ok", None, "other", 1, {"gate_gbps": 390.1}),
    ("perftest_write_bw_sweep.txt", "ib_write_bw", "ok", None, "ib", 23, {"gate_gbps": 394.4}),
    ("perftest_write_bw_sweep_then_access.txt", "ib_write_bw", "failed", "access", "ib", 14, {}),
    ("perftest_write_bw_timeout.txt", "ib_write_bw", "failed", "timeout", "roce", 0, {}),
    ("perftest_write_bw_two_ports.txt", "ib_write_bw", "ok", None, "roce", 1, {"gate_gbps": 192.88}),
    ("perftest_write_lat.txt", "ib_write_lat", "ok", None, "roce", 1, {"gate_usec": 1.95}),
    ("show_gids_none.txt", "show_gids", "failed", "gid", None, 0, {}),
    ("show_gids_roce.txt", "show_gids", "ok", None, "roce", 4, {}),
    ("unknown.txt", "unknown", "unreadable", "other", None, 0, {}),
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "tool", "status", "error_class", "transport", "rows", "gate"),
    EXPECTED,
    ids=[case[0] for case in EXPECTED],
)
def test_every_sample_is_read_as_what_it_is(name, tool, status, error_class, transport, rows, gate):
    told = read((SAMPLES / name).read_bytes()).as_json()

    gates = {key: value for key, value in told.items() if key.startswith("gate_") and value is not None}
    assert (told["tool"], told["status"], told["error_class"]) == (tool, status, error_class)
    assert told["transport"] == transport
    assert len(told["rows"]) == rows
    assert gates == pytest.approx(gate)


def test_every_sample_is_expected():
    assert sorted(path.name for path in SAMPLES.iterdir()) == sorted(case[0] for case in EXPECTED)


def test_the_samples_show_every_class_of_failure_and_every_transport():
    assert {case[3] for case in EXPECTED} == {*ERROR_CLASSES, None}
    assert {case[4] for case in EXPECTED} == {*TRANSPORTS, None}
    assert {case[1] for case in EXPECTED} == {*TOOLS}
