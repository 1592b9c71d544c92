from dataclasses import replace
from pathlib import Path

import pytest

from llm_rollout.fabric.nccl import Said, environment, judge, said
from llm_rollout.fabric.perftest import Output

SAMPLES = Path(__file__).parent / "reading/samples"
FAST = Said(ok=True, error_class=None, transport="roce", busbw_gbytes=390.0, last_line="#")
OTHER = replace(FAST, busbw_gbytes=None)
SOCKETS = Said(ok=False, error_class="socket-fallback", transport="socket", busbw_gbytes=None, last_line="#")


def _said(sample, exit_code=0):
    return said(Output(exit_code, (SAMPLES / f"{sample}.txt").read_text(), ""))


def test_launcher_is_told_who_it_is_in_the_words_of_torchrun():
    told = environment(1, 3, "job-0.job", 18502)
    assert (told["NODE_RANK"], told["NNODES"], told["MASTER_ADDR"], told["MASTER_PORT"]) == (
        "1",
        "3",
        "job-0.job",
        "18502",
    )
    assert told["NCCL_DEBUG"] == "INFO"


def test_fast_run_over_rdma_is_fine():
    assert judge({"a": FAST, "b": OTHER}, 400.0) == ([], [])


def test_sockets_are_bad_however_fast():
    (finding,), missing = judge({"a": FAST, "b": SOCKETS}, 1.0)
    assert (finding.kind, finding.name, finding.severity, missing) == ("setting", "NCCL", "bad", [])
    assert finding.detail == "b went over sockets"
    assert _said("nccl_tests_all_reduce_over_sockets") == replace(
        SOCKETS, last_line=_said("nccl_tests_all_reduce_over_sockets").last_line
    )


def test_wrong_data_is_bad():
    (finding,), _ = judge({"a": _said("nccl_tests_all_reduce_wrong"), "b": OTHER}, None)
    assert (finding.severity, "wrong-data" in finding.detail) == ("bad", True)


@pytest.mark.parametrize(
    ("by_node", "reason"),
    [
        ({"a": FAST, "b": replace(OTHER, transport=None)}, "NCCL's log on b names no transport"),
        ({"a": OTHER, "b": OTHER}, "the NCCL command printed no bus bandwidth at index 0"),
        (
            {"a": said(Output(127, "", "nccl-check cannot be started"))},
            "NCCL did not run on a: nccl-check cannot be started",
        ),
        ({"a": FAST, "b": said(Output(None, "", ""))}, "NCCL did not run on b: truncated"),
    ],
)
def test_what_could_not_run_or_does_not_say_blames_nobody(by_node, reason):
    assert judge(by_node, 400.0) == ([], [reason])


def test_run_that_failed_after_good_rows_is_not_ok():
    assert _said("nccl_tests_all_reduce_with_log").ok
    assert not _said("nccl_tests_all_reduce_with_log", exit_code=1).ok
    assert not _said("nccl_tests_all_reduce_with_log", exit_code=None).ok


def test_half_the_speed_of_the_ports_is_a_warning_about_what_lies_between_gpu_and_nic():
    (finding,), _ = judge({"a": replace(FAST, busbw_gbytes=220.0)}, 400.0)
    assert (finding.severity, "ACS" in finding.remedy) == ("warn", True)
    assert judge({"a": replace(FAST, busbw_gbytes=220.0)}, None) == ([], [])


def test_connection_without_gpudirect_is_a_warning():
    (finding,), _ = judge({"a": replace(FAST, error_class="no-gdr")}, 400.0)
    assert finding.severity == "warn"
