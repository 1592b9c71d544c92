"""Every way in which starting fails is told as vLLM tells it, so that what reads vLLM's logs reads these."""

import json
import signal
import socket

import psutil
import pytest

from devcluster.standins.vllm import faults, logs, startup
from devcluster.standins.vllm.failures import DEVICE, FAILURES, PHASES, PROCESS
from llm_rollout.coldstart.reading import read

from .conftest import free_port, until

CASES = [(name, phase) for name, failure in FAILURES.items() for phase in dict.fromkeys(failure.phases)]
REACHED = {DEVICE: "rendezvous", "engine_up": "graph_capture"}
"""What the log shows when a phase without a sign of its own fails."""
CLASSES = {"GENERIC": "UNKNOWN"}


@pytest.fixture
def start(models, capfd, monkeypatch):
    """Runs the leader of a group of one in this process; returns its exit code and what it printed."""
    before = signal.getsignal(signal.SIGTERM)

    def run(*flags, model=None, **environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        code = startup.run(["serve", str(model or models / "v1"), "--host=127.0.0.1", f"--port={free_port()}", *flags])
        out, err = capfd.readouterr()
        return code, out + err

    yield run
    signal.signal(signal.SIGTERM, before)
    logs.become("APIServer")


@pytest.mark.parametrize(("name", "phase"), CASES)
def test_a_wanted_failure_ends_the_start_at_its_phase_in_vllms_words(start, name, phase):
    code, text = start("--max-model-len=4096", STANDIN_FAIL=f"{name}@{phase}")
    found = read(text)
    assert code == 1
    assert found.cause.class_name == CLASSES.get(name, name)
    assert found.phase == REACHED.get(phase, phase)


def test_a_class_that_nothing_can_show_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="STANDIN_FAIL=OOM is unknown; known are MODEL_REF"):
        faults.Faults.from_environment({"STANDIN_FAIL": "OOM"}, 0)
    with pytest.raises(ValueError, match="NCCL can happen at rendezvous, weights"):
        faults.Faults.from_environment({"STANDIN_FAIL": "NCCL@process"}, 0)
    with pytest.raises(ValueError, match="STANDIN_HANG=coffee is unknown; known are process"):
        faults.Faults.from_environment({"STANDIN_HANG": "coffee"}, 0)


@pytest.mark.parametrize("phase", [phase for phase in PHASES if phase != PROCESS])
def test_a_rank_that_hangs_says_nothing_more_and_leaves_on_sigterm(group, models, phase):
    signs = {"rendezvous": "world_size=", "weights": "Completed |", "compile": "torch.compile", "device": "nccl=="}
    signs |= {"kv_cache": "KV cache size", "graph_capture": "Profiling CUDA graph", "engine_up": "Graph capturing"}
    server = group().start_all(models / "v1", STANDIN_HANG=phase)
    until(lambda: signs[phase] in server.log(), f"{phase} to be reached")
    assert "init engine" not in server.log()
    assert "Engine core initialization failed" not in server.log()
    assert server.processes[0].poll() is None
    server.terminate()
    assert server.exit_code() == 0


def test_a_healthy_start_shows_every_phase_in_its_order(group, models):
    server = group(2).start_all(models / "v1", "--safetensors-load-strategy=prefetch").ready()
    text = server.log()
    seen = []
    for end in range(len(text.splitlines())):
        phase = read("\n".join(text.splitlines()[: end + 1])).phase
        if phase and phase not in seen:
            seen.append(phase)
    order = ["process", "rendezvous", "weights", "compile", "kv_cache", "graph_capture", "engine_up", "serving"]
    assert seen == order
    assert read(text).cause is None
    assert read(server.log(1)).cause is None
    assert "Prefetching checkpoint files: 20% (1/5)" in server.log(1)
    assert "Loading safetensors checkpoint shards" not in server.log(1)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"model_type": "llama9"}, "MODEL_UNSUPPORTED"),
        ({"architectures": ["OtherForCausalLM"]}, "MODEL_UNSUPPORTED"),
        ({"auto_map": {"AutoModel": "own.Model"}}, "MODEL_UNSUPPORTED"),
        ({"quantization_config": {"quant_method": "int3_magic"}}, "MODEL_UNSUPPORTED"),
        ({"intermediate_size": 128}, "WEIGHTS_MISMATCH"),
        ({"num_hidden_layers": 5}, "WEIGHTS_MISSING"),
    ],
)
def test_a_model_that_is_none_of_ours_is_refused(start, copied, change, cause):
    config = copied / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    code, text = start(model=copied)
    assert (code, read(text).cause.class_name) == (1, cause)


@pytest.mark.parametrize(
    ("file", "content", "cause"),
    [
        ("config.json", b"{", "CONFIG_BROKEN"),
        ("tokenizer.json", b"{", "TOKENIZER"),
        ("model-00002-of-00005.safetensors", b"", "WEIGHTS_CORRUPT"),
        ("model-00002-of-00005.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "WEIGHTS_CORRUPT"),
        ("model-00002-of-00005.safetensors", b"\x08" + bytes(7) + b"{}      ", "WEIGHTS_MISSING"),
    ],
)
def test_a_broken_file_is_told_by_the_library_that_reads_it(start, copied, file, content, cause):
    (copied / file).write_bytes(content)
    code, text = start(model=copied)
    assert (code, read(text).cause.class_name) == (1, cause)


@pytest.mark.parametrize(("file", "cause"), [("config.json", "MODEL_REF"), ("tokenizer.json", "TOKENIZER")])
def test_a_missing_file_ends_the_start(start, copied, file, cause):
    (copied / file).unlink()
    code, text = start(model=copied)
    assert (code, read(text).cause.class_name) == (1, cause)


def test_a_port_that_somebody_else_has_ends_the_start(start):
    with socket.create_server(("127.0.0.1", 0)) as other:
        code, text = start(f"--port={other.getsockname()[1]}")
    assert (code, read(text).cause.class_name) == (1, "PORT_IN_USE")


def test_ranks_with_another_dtype_are_noticed_by_the_leader(group, models):
    server = group(2).start(1, models / "v1", "--dtype=float16").start(0, models / "v1", "--dtype=bfloat16")
    assert server.exit_code(0) == 1
    assert server.exit_code(1) == 1
    assert read(server.log(0)).cause.class_name == "FLAGS_DISAGREE"
    assert read(server.log(1)).cause.class_name == "PEER_LOST"


def test_ranks_that_count_their_nodes_differently_wait_in_vain(group, models):
    server = group(2)
    server.start(1, models / "v1", "--nnodes=3", "-pp=3", "--distributed-timeout-seconds=60")
    until(lambda: "has failed to connect" in server.log(1), "the worker to call")
    server.start(0, models / "v1", "--distributed-timeout-seconds=4")
    assert server.exit_code(0) == 1
    assert "wait timeout after 4000ms, keys:" in server.log(0)


def test_a_worker_whose_leader_dies_before_all_have_met_says_so(group, models):
    server = group(3).start(0, models / "v1").start(1, models / "v1", "--distributed-timeout-seconds=60")
    leader = psutil.Process(server.processes[0].pid)
    until(lambda: any(found.status == psutil.CONN_ESTABLISHED for found in leader.net_connections()), "the two to meet")
    server.processes[0].kill()
    assert server.exit_code(1) == 1
    assert "Connection was likely closed" in server.log(1)
    assert read(server.log(1)).cause.class_name in {"PEER_LOST", "RENDEZVOUS"}


def test_the_log_of_a_leader_whose_worker_was_killed_blames_the_peer(group, models):
    server = group(2).start_all(models / "v1", STANDIN_LOAD_SECONDS="1")
    until(lambda: "Starting to load model" in server.log(1), "the worker to load")
    server.processes[1].kill()
    assert server.exit_code(0) == 1
    assert read(server.log(0)).cause.class_name == "PEER_LOST"
