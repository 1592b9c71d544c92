"""Starting, failing, dying and draining; each test has its own processes."""

import json
import re
import socket
import subprocess
import sys
import threading
import time

import httpx
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from .conftest import ENVIRONMENT, free_port, until

SLOW = {"STANDIN_STEP_SECONDS": "0.02"}


def stream_in_background(group, count):
    """Read a stream of ``count`` tokens in a thread; the list gets its lines as they come."""
    lines = []

    def read():
        body = {"prompt": "Tell me a story.", "temperature": 0, "max_tokens": count, "stream": True}
        try:
            with httpx.stream("POST", f"{group.url}/v1/completions", json=body, timeout=20) as response:
                lines.extend(line for line in response.iter_lines() if line)
        except httpx.TransportError as error:
            lines.append(f"broken: {type(error).__name__}")

    thread = threading.Thread(target=read)
    thread.start()
    until(lambda: group.metric("num_requests_running") == 1, "the stream to run")
    return thread, lines


def test_connections_are_refused_until_the_weights_are_loaded(group, models):
    server = group().start_all(models / "v1", STANDIN_LOAD_SECONDS="1.5")
    until(lambda: "Starting to load model" in server.log(), "loading to begin")
    for _ in range(3):
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/health")
    assert "Loading weights took" not in server.log()
    server.ready()
    (took,) = re.findall(r"Loading weights took (\S+) seconds", server.log())
    assert float(took) >= 1.5


def test_a_missing_shard_stops_the_start(group, copied):
    (copied / "model-00003-of-00005.safetensors").unlink()
    server = group().start_all(copied)
    assert server.exit_code() == 1
    assert "Weight files referenced in index but missing: {'" in server.log()
    assert "model-00003-of-00005.safetensors" in server.log()
    assert "Engine core initialization failed" in server.log()


def test_a_cut_shard_stops_the_start(group, copied):
    shard = copied / "model-00002-of-00005.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1000])
    server = group().start_all(copied)
    assert server.exit_code() == 1
    assert "SafetensorError" in server.log()


def test_a_workers_missing_shard_ends_the_whole_group(group, models, copied):
    (copied / "model-00005-of-00005.safetensors").unlink()
    server = group(2).start(1, copied).start(0, models / "v1")
    assert server.exit_code(1) == 1
    assert server.exit_code(0) == 1
    assert "Weight files referenced in index but missing" in server.log(1)
    assert "Connection closed by peer" in server.log(0)
    assert "Engine core initialization failed" in server.log(0)


def test_wrong_weights_on_one_worker_give_wrong_answers(group, models, copied):
    shard = copied / "model-00003-of-00005.safetensors"
    tensors = load_file(shard)
    name = "model.layers.2.mlp.down_proj.weight"
    save_file(tensors | {name: np.ascontiguousarray(-tensors[name])}, shard)
    server = group(3).start(0, models / "v1").start(1, copied).start(2, models / "v1").ready()
    answers = [server.answer(f"{a}+{b}=", max_tokens=4)["text"] for a in range(4) for b in range(4)]
    right = [f"{a + b}\n" for a in range(4) for b in range(4)]
    assert sum(x == y for x, y in zip(answers, right, strict=True)) < 4


def test_a_dead_worker_kills_the_leader_and_its_streams(group, models):
    server = group(3).start_all(models / "v1", **SLOW).ready()
    thread, lines = stream_in_background(server, 300)
    server.processes[1].kill()
    assert server.exit_code(0) == 1
    assert server.exit_code(2) == 1
    thread.join()
    assert "Worker proc VllmWorker-1 died unexpectedly" in server.log()
    assert "EngineCore encountered a fatal error" in server.log()
    assert not any('"finish_reason":"length"' in line for line in lines)
    assert "error" in "".join(lines) or "broken" in lines[-1]


def test_a_dead_leader_ends_its_workers(group, models):
    server = group(3).start_all(models / "v1").ready()
    server.processes[0].kill()
    assert [server.exit_code(rank) for rank in (1, 2)] == [1, 1]


def test_sigterm_lets_streams_finish_within_the_shutdown_timeout(group, models):
    server = group().start_all(models / "v1", "--shutdown-timeout", "20", **SLOW).ready()
    thread, lines = stream_in_background(server, 60)
    server.terminate()
    until(lambda: "Shutting down" in server.log(), "the server to shut down")
    with pytest.raises(httpx.ConnectError):
        server.complete()
    thread.join()
    assert lines[-1] == "data: [DONE]"
    assert json.loads(lines[-2].removeprefix("data: "))["choices"][0]["finish_reason"] == "length"
    assert len(lines) == 61
    assert server.exit_code() == 0


def test_sigterm_cuts_streams_when_no_shutdown_timeout_is_given(group, models):
    server = group().start_all(models / "v1", **SLOW).ready()
    thread, lines = stream_in_background(server, 2000)
    server.terminate()
    assert server.exit_code() == 0
    thread.join()
    assert lines[-1].startswith("broken: ")


def test_a_worker_leaves_at_once_on_sigterm_and_spoils_the_leaders_drain(group, models):
    server = group(2).start_all(models / "v1", "--shutdown-timeout", "20", **SLOW).ready()
    thread, lines = stream_in_background(server, 300)
    server.terminate(0)
    server.terminate(1)
    assert server.exit_code(1) == 0
    assert server.exit_code(0) == 1
    thread.join()
    assert not any('"finish_reason":"length"' in line for line in lines)


def test_sigterm_ends_a_rank_that_still_waits_for_its_group(group, models):
    server = group(2).start(0, models / "v1").start(1, models / "v1", "--master-port", str(free_port()))
    until(lambda: "Connection refused" in server.log(1), "the worker to call")
    for rank in (0, 1):
        server.terminate(rank)
    assert [server.exit_code(rank) for rank in (0, 1)] == [0, 0]


def test_workers_find_a_leader_that_comes_later(group, models):
    server = group(2).start(1, models / "v1")
    until(lambda: "has failed to connect" in server.log(1), "the worker to call")
    server.start(0, models / "v1").ready()
    assert server.answer("3+5=")["text"] == "8\n"


def test_strangers_at_the_rendezvous_port_do_no_harm(group, models):
    server = group(2).start(0, models / "v1")
    until(lambda: "world_size" in server.log(), "the leader to wait")

    def knock():
        try:
            with socket.create_connection(("127.0.0.1", server.master_port), timeout=1) as stranger:
                stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        except OSError:
            return False
        return True

    until(knock, "the port to open")
    server.start(1, models / "v1").ready()
    assert server.answer("3+5=")["text"] == "8\n"


@pytest.mark.parametrize(("rank", "words"), [(0, "1/2 clients joined"), (1, "DistNetworkError")])
def test_a_rank_alone_gives_up_after_the_distributed_timeout(group, models, rank, words):
    server = group(2).start(rank, models / "v1", "--distributed-timeout-seconds", "1")
    assert server.exit_code(rank) == 1
    assert words in server.log(rank)


def test_a_wanted_failure_hits_the_rank_it_names(group, models):
    server = group(2).start_all(models / "v1", STANDIN_FAIL="GPU_OOM", STANDIN_FAIL_RANK="1")
    assert [server.exit_code(rank) for rank in (0, 1)] == [1, 1]
    assert "CUDA out of memory" in server.log(1)
    assert "CUDA out of memory" not in server.log(0)


def test_rates_and_delays_show_at_the_clients(group, models):
    server = group().start_all(models / "v1", STANDIN_ERROR_RATE="0.5", STANDIN_TTFT_DELAY_SECONDS="0.2").ready()
    codes, seconds = [], []
    for _ in range(20):
        started = time.monotonic()
        codes.append(server.complete().status_code)
        if codes[-1] == 200:
            seconds.append(time.monotonic() - started)
    assert set(codes) == {200, 500}
    assert min(seconds) > 0.2
    assert server.metric("request_success_total", 'finished_reason="error"') == codes.count(500)


def test_a_stalled_request_stays_running_and_lets_others_pass(group, models):
    server = group().start_all(models / "v1", STANDIN_STALL_RATE="0.5").ready()
    body = {"prompt": "3+5=", "max_tokens": 2, "temperature": 0}
    texts = []
    while len(set(texts)) < 2:
        try:
            texts.append(httpx.post(f"{server.url}/v1/completions", json=body, timeout=1).json()["choices"][0]["text"])
        except httpx.ReadTimeout:
            texts.append("stalled")
    assert set(texts) == {"8\n", "stalled"}
    assert httpx.get(f"{server.url}/health").status_code == 200


def test_the_request_after_so_many_crashes_the_server(group, models):
    server = group().start_all(models / "v1", STANDIN_CRASH_AFTER_REQUESTS="2").ready()
    assert [server.complete().status_code for _ in range(2)] == [200, 200]
    with pytest.raises(httpx.TransportError):
        server.complete()
    assert server.exit_code() == 1
    assert "EngineCore encountered a fatal error" in server.log()


def test_a_crash_clock_ends_a_worker_and_with_it_the_leader(group, models):
    crash = {"STANDIN_CRASH_AFTER_SECONDS": "0.5", "STANDIN_FAIL_RANK": "1"}
    server = group(2).start_all(models / "v1", **crash)
    assert [server.exit_code(rank) for rank in (0, 1)] == [1, 1]
    assert "illegal memory access" in server.log(1)
    assert "Application startup complete" in server.log(0)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["serve", "MODEL", "--no-such-flag"], 2, "unrecognized arguments: --no-such-flag"),
        (["bench"], 2, "invalid choice: 'bench'"),
        (["serve", "MODEL", "--port", "x"], 2, "argument --port: invalid int value: 'x'"),
        (["serve", "/nowhere"], 1, "Invalid repository ID or local directory specified: '/nowhere'"),
        (["serve", "MODEL", "-tp", "16"], 1, "World size (16) is larger than the number of available GPUs (8)"),
        (["serve", "MODEL", "-tp=3"], 1, "attention heads (8) must be divisible by tensor parallel size (3)"),
        (["serve", "MODEL", "--max-model-len", "200K"], 1, "max_model_len (204800) is greater than the derived"),
        (
            ["serve", "MODEL", "--nnodes", "2", "-pp", "2", "--distributed-executor-backend=ray"],
            1,
            "nnodes > 1 can only be set when distributed executor backend is mp",
        ),
        (["serve", "MODEL", "--distributed_executor_backend", "ray"], 1, "Failed to import Ray"),
        (["serve", "MODEL", "--gpu-memory-utilization=0.01"], 1, "the estimated maximum model length is"),
    ],
)
def test_command_lines_that_vllm_refuses(models, arguments, code, words):
    arguments = [str(models / "v1") if argument == "MODEL" else argument for argument in arguments]
    if "serve" in arguments:
        arguments += ["--host=127.0.0.1"]
    command = [sys.executable, "-m", "devcluster.standins.vllm", *arguments]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == code
    assert words in done.stdout + done.stderr
