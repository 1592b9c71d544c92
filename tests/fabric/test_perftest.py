import pytest

from llm_rollout.fabric.perftest import MIB_TO_GBIT, Output, bandwidth, failure, latency
from llm_rollout.fabric.rows import Failure, Measured

LINE = "-" * 87
HEAD = f"""\
{LINE}
                    RDMA_Write BW Test
 Dual-port       : OFF\t\tDevice         : mlx5_0
 Number of qps   : 4\t\tTransport type : IB
 Mtu             : 4096[B]
{LINE}
 local address: LID 0000 QPN 0x0208 PSN 0x000e38 RKey 0x000208 VAddr 0x007f0000000208
 GID: 00:00:00:00:00:00:00:00:00:00:255:255:10:64:00:20
{LINE}
"""
GBITS = " #bytes     #iterations    BW peak[Gb/sec]    BW average[Gb/sec]   MsgRate[Mpps]\n"
MIBS = GBITS.replace("Gb/sec", "MiB/sec")
ROW = " 1048576    234560           392.11             389.42 \t\t     0.046423\n"


def _output(text, stderr="", exit_code=0):
    return Output(exit_code, text, stderr)


@pytest.mark.parametrize(
    ("name", "text", "gbps"),
    [
        ("average, not peak", HEAD + GBITS + ROW, 389.42),
        ("MiB when the header says so", HEAD + MIBS + " 65536 5000 23600.1 23500.0 0.37\n", 23500 * MIB_TO_GBIT),
        ("older MB counts 2^20", HEAD + GBITS.replace("Gb/", "MB/") + " 65536 5000 0 11025.0 0.17\n",
         11025 * MIB_TO_GBIT),
        ("a peak that was not measured", HEAD + " WARNING: BW peak won't be measured in this run.\n" + GBITS
         + " 1048576 1 0.00 388.5 0.04\n", 388.5),
        ("noise between header and row", HEAD + GBITS + "Conflicting CPU frequency values detected: 2400 != 3100."
         " CPU Frequency is not max.\n" + ROW, 389.42),
        ("service level column", HEAD + GBITS.replace("#iterations", "#sl      #iterations")
         + " 1048576    5           1000           400.00             380.00                  0.04\n", 380.0),
        ("the largest size of a sweep", HEAD + GBITS + " 2 5000 0.1 0.096548 6.03\n 8388608 5000 390.2 390.1 0.0058\n",
         390.1),
        ("client and server in one capture", HEAD + GBITS + HEAD + GBITS + ROW + ROW, 389.42),
        ("tabs for blanks", HEAD + GBITS + ROW.replace(" ", "\t"), 389.42),
    ],
)  # fmt: skip
def test_bandwidth_is_the_average_in_gbits(name, text, gbps):
    assert bandwidth(_output(text)) == Measured(pytest.approx(gbps)), name


LATENCY = (
    " #bytes #iterations    t_min[usec]    t_max[usec]  t_typical[usec]    t_avg[usec]    t_stdev[usec]"
    "   99% percentile[usec]   99.9% percentile[usec] \n"
)


def test_latency_is_the_99th_percentile():
    row = " 8       5000          1.85        5.92      1.91  \t       1.93     \t0.06\t\t2.06 \t\t2.68   \n"
    assert latency(_output(HEAD + LATENCY + row)) == Measured(2.06)


def test_latency_over_a_duration_has_no_percentile():
    text = " #bytes        #iterations       t_avg[usec]    tps average\n 8   1000000    1.95        256410.3\n"
    assert latency(_output(HEAD + text)) == Failure(
        "could_not_run", "ib_write_lat ended well but printed no 99th percentile"
    )


SWEEP_THEN_FAILURE = """\
 Completion with error at client
 Failed status 10: wr_id 0 syndrom 0x88
 scnt=128, ccnt=0
 Failed to complete run_iter_bw function successfully
"""


@pytest.mark.parametrize("exit_code", [0, 1])
def test_good_row_followed_by_a_failure_is_a_failure(exit_code):
    result = bandwidth(_output(HEAD + GBITS + ROW, SWEEP_THEN_FAILURE, exit_code))
    assert isinstance(result, Failure)
    assert (result.status, "status 10" in result.detail) == ("bad", True)


@pytest.mark.parametrize(
    ("stderr", "status", "said"),
    [
        (" Failed status-transport retry counter exceeded (12): wr_id 0 syndrom 0x81", "bad", "status 12"),
        (" Failed status 4: wr_id 0 syndrom 0x51", "bad", "ACS or IOMMU"),
        (" Failed to modify QP 264 to RTR\n Unable to Connect the HCA's through the link", "bad", "GID"),
        (" Port number 1 state is Down\n Couldn't set the link layer", "bad", "not ACTIVE"),
        ("Couldn't allocate MR", "bad", "IPC_LOCK"),
        (" Unable to find the Infiniband/RoCE device", "bad", "/dev/infiniband"),
        ("Couldn't connect to node-2:18515\n Unable to init the socket connection", "could_not_run", "TCP"),
        ("ethernet_read_keys: Couldn't read remote address", "could_not_run", "other end"),
        ("something new", "could_not_run", "exit code 1: something new"),
    ],
)
def test_failures_tell_a_fault_of_the_path_or_its_ends_from_what_says_nothing_about_them(stderr, status, said):
    result = bandwidth(_output(HEAD, stderr, 1))
    assert isinstance(result, Failure)
    assert result.status == status
    assert said in result.detail


def test_tool_that_had_to_be_ended_is_not_measured():
    result = bandwidth(Output(None, HEAD + GBITS, ""))
    assert isinstance(result, Failure)
    assert (result.status, "took too long" in result.detail) == ("could_not_run", True)


def test_good_exit_without_a_row_is_not_measured():
    assert bandwidth(_output(HEAD)).status == "could_not_run"


def test_stand_in_is_told_from_hardware():
    assert not bandwidth(_output(HEAD + GBITS + ROW)).simulated
    assert bandwidth(_output("SIMULATED (devcluster): a stand-in\n" + HEAD + GBITS + ROW)).simulated


def test_active_port_is_no_failure():
    assert failure(_output(" Port number 1 state is Active")) is None
