"""Find out which tool wrote a file, and have its reader read it."""

from __future__ import annotations

import re
from collections.abc import Callable

from llm_rollout.fabric.reading import (
    ibv_devinfo,
    iperf3,
    nccl_log,
    nccl_tests,
    nccl_tests_json,
    network_status,
    perftest,
    perftest_json,
    show_gids,
)
from llm_rollout.fabric.reading.lines import clean, text_of
from llm_rollout.fabric.reading.outcome import Reading

Reader = Callable[[str], Reading]

_JSON = re.compile(r"\s*(?:\{|\[\s*(?:\{|\]|$))")
_JSON_TOOLS: tuple[tuple[Reader, tuple[str, ...]], ...] = (
    (nccl_tests_json.read, ('"nccl_version"', '"average_bus_bandwidth"', '"out_of_bounds"', '"nthreads"')),
    (perftest_json.read, ("test_info", "MsgSize")),
    (iperf3.read_json, ('"bits_per_second"', '"sum_sent"', '"iperf3', '"iperf ', '"error"')),
    (network_status.read, ("network-status", "networks-status", '"interface"', '"name"')),
)
_TOOLS: tuple[tuple[Reader, tuple[str, ...]], ...] = (
    (
        nccl_tests.read,
        ("# nccl-tests version", "# Collective test ", "Avg bus bandwidth", "algbw", "# nThread ", "#  Rank ",
         "Test NCCL failure", "Test CUDA failure", "Invalid number of GPUs", ": Test timeout"),
    ),
    (
        nccl_log.read,
        ("NCCL INFO", "NCCL WARN", "NET/IB", "NET/Socket", "via NET/", "ncclCommInit", "Call to ibv_", "Bootstrap :",
         "ncclIbRoceGetVersionNum"),
    ),
    (
        perftest.read,
        ("#bytes", " BW Test", " Latency Test", "RDMA_Write", "RDMA_Read", "ib_write_", "ib_read_", "ib_send_",
         "ib_atomic_", "Infiniband/RoCE", "Couldn't allocate MR", "ailed to create mr", "Failed to modify QP",
         "HCA's through the link", "Completion with error at", "Failed status", "Waiting for client to connect",
         "ethernet_read_keys", "Unable to init the socket", "socket/rdma_cm", "Couldn't connect to", "Port number ",
         "Couldn't set the link layer", "run_iter_bw", "Dual-port       :"),
    ),
    (ibv_devinfo.read, ("hca_id:", "No IB devices found", "Failed to get IB devices list", "ibv_devinfo:")),
    (show_gids.read, ("n_gids_found=", "DEV\tPORT\tINDEX")),
    (iperf3.read, ("iperf3: error", "iperf Done", "[ ID] Interval", "Connecting to host ", "Server listening on ")),
)  # fmt: skip
"""What only this family writes. The output of nccl-tests may hold an NCCL log, so it comes first."""


def read(data: bytes) -> Reading:
    """The reading of a file's content; of anything that no reader knows, an unreadable one."""
    raw = text_of(data)
    if raw is None:
        return Reading("unknown", "unreadable", error_class="other")
    text = clean(raw)
    is_json = _JSON.match(text) is not None
    for reader, words in _JSON_TOOLS if is_json else _TOOLS:
        if any(each in text for each in words):
            return reader(text)
    begun = is_json or not text.strip(" \t\n-*#")
    return Reading("unknown", "unreadable", error_class="truncated" if begun else "other")
