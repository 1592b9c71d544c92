"""Logs as people keep and paste them: cut at either end, stamped by others, of dead and of serving engines."""

import json
import re

import pytest

from llm_rollout.coldstart import lines
from llm_rollout.coldstart.reading import read

HEAD = "(APIServer pid=1) INFO 11-23 10:00:01 [startup.py:28] vLLM server version 0.33.0, serving model /models/x"
LOADING = "(Worker_TP0 pid=9) INFO 11-23 10:00:22 [gpu_model_runner.py:4979] Starting to load model /models/x..."
SERVING = "(APIServer pid=1) INFO:     Application startup complete."
ANSWER = '(APIServer pid=1) INFO:     10.0.0.1:46320 - "POST /v1/completions HTTP/1.1" 500 Internal Server Error'
STOPPED = "(APIServer pid=1) INFO:     Shutting down"
OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.96 GiB."


def _raised(words, where="EngineCore pid=7", said="EngineCore encountered a fatal error."):
    head = f"({where}) ERROR 11-23 10:05:00 [core.py:1584] "
    return [
        f"{head}{said}",
        f"{head}Traceback (most recent call last):",
        f'{head}  File "/app/vllm/v1/engine/core.py", line 1550, in run_engine_core',
        f"{head}    engine_core.run_busy_loop()",
        f"{head}{words}",
    ]


def _shown(*rows):
    told = read("\n".join(rows))
    return told.phase, told.cause and told.cause.class_name


def test_a_log_that_begins_after_its_engine_served_still_shows_why_the_engine_died():
    rows = [*_raised("torch.AcceleratorError: CUDA error: an illegal memory access was encountered"), ANSWER, STOPPED]
    assert _shown(*rows) == ("serving", "ENGINE_BUG")


def test_failed_requests_in_a_log_that_begins_while_serving_are_no_cause():
    rows = _raised(OOM, where="APIServer pid=1", said="Error in completion stream generator.")
    assert _shown(*rows, ANSWER) == ("serving", None)


def test_a_server_that_stops_in_order_was_asked_to():
    assert _shown(HEAD, LOADING, SERVING, ANSWER, STOPPED) == ("stopped", "TERMINATED")


@pytest.mark.parametrize(
    "words",
    [
        "slurmstepd: error: *** JOB 5930 ON node11 CANCELLED AT 2026-11-23T15:50:04 DUE TO TIME LIMIT ***",
        "vllm-1 exited with code 143",
        "KeyboardInterrupt: terminated",
    ],
)
def test_a_request_to_stop_is_known_however_it_is_said(words):
    assert _shown(HEAD, LOADING, SERVING, words) == ("stopped", "TERMINATED")


def test_that_ray_tidies_up_is_no_request_to_stop():
    advice = "(EngineCore pid=7) INFO 11-23 10:05:01 [ray_executor.py:1] Shutting down Ray distributed executor. If you"
    rows = [HEAD, *_raised("ModuleNotFoundError: No module named 'pyarrow'")]
    assert _shown(*rows, f"{advice} see SIGTERM received, please ignore") == ("process", "MISSING_DEPENDENCY")


def test_that_a_process_was_killed_explains_nothing_that_came_before_it():
    odd = _raised("vllm.odd.OddError: why", said="EngineCore failed to start.")
    assert _shown(HEAD, *odd, "Killed") == ("process", "UNKNOWN")
    assert _shown(HEAD, LOADING, "Killed") == ("weights", "HOST_MEMORY")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("/start.sh: line 3:    17 Killed                  vllm serve /models/x", "HOST_MEMORY"),
        ("!!!!!!! Segfault encountered !!!!!!!", "ENGINE_BUG"),
        ("Fatal Python error: Segmentation fault", "ENGINE_BUG"),
    ],
)
def test_a_serving_engine_that_is_gone_at_once_is_dead(words, expected):
    assert _shown(HEAD, LOADING, SERVING, ANSWER, words) == ("serving", expected)


def test_a_headless_worker_that_ends_in_order_was_asked_to():
    ending = "(MainProcess pid=1) INFO 11-23 10:05:00 [m.py:479] [shutdown] Executor: waiting for worker exit count=1"
    assert _shown(HEAD, LOADING, ending) == ("stopped", "TERMINATED")


def test_a_worker_that_does_not_answer_is_lost_only_where_it_is_on_another_node():
    group = "(EngineCore pid=7) INFO 11-23 10:00:09 [m.py:153] DP group leader: world_size={}, local_world_size={}"
    silent = _raised("TimeoutError: RPC call to execute_model timed out.")
    assert _shown(HEAD, group.format(4, 4), SERVING, *silent) == ("serving", "TIMEOUT")
    assert _shown(HEAD, group.format(4, 2), SERVING, *silent) == ("serving", "PEER_LOST")


def test_graphs_that_are_only_measured_do_not_end_the_phase_of_the_cache():
    measured = "(Worker pid=9) INFO 11-23 10:01:00 [r.py:1] Profiling CUDA graph memory: PIECEWISE=32 (largest=512)"
    room = "(Worker pid=9) INFO 11-23 10:01:02 [w.py:1] Available KV cache memory: 8.72 GiB"
    captured = "(Worker pid=9) INFO 11-23 10:01:09 [w.py:1] Graph capturing finished in 4 secs, took 0.31 GiB"
    again = room.replace("10:01:02", "10:01:12")
    shown = [_shown(HEAD, LOADING, *rows)[0] for rows in ((measured,), (measured, room), (captured, again))]
    assert shown == ["graph_capture", "kv_cache", "graph_capture"]


def test_an_exception_on_the_line_that_begins_its_traceback_says_that_the_engine_ended():
    head = "ERROR 03-07 16:37:49 [core.py:324] "
    rows = [
        f"{head}EngineCore hit an exception: Traceback (most recent call last):",
        f'{head}  File "/app/vllm/v1/structured_output/x.py", line 1, in __init__',
        f"{head}    x.y",
        f"{head}AttributeError: 'Odd' object has no attribute 'y'",
    ]
    assert _shown(*rows) == ("process", "ENGINE_BUG")


def test_the_second_line_of_a_refusal_is_enough_where_the_first_ones_were_cut_off():
    rows = [
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ParallelConfig",
        "  Value error, Tensor parallel size (2) cannot be larger than the number of available GPUs (1). [type=x]",
    ]
    assert _shown(*rows) == ("process", "PARALLEL_CFG")


_STAMPS = {
    "docker desktop": "2026-11-23 10:00:0{}.268 | {}",
    "a runner": "[2026-11-23T10:00:0{}Z] {}",
    "systemd": "Nov 23 10:00:0{} node-1 vllm[139935]: {}",
    "a supervisor": "2026-11-23 10:00:0{}.604 [Info] (Process) {}",
    "numbers": "[{}] {}",
    "an editor": "{:>4}\t{}",
    "a quotation": "> {1}",
    "set as code": "    {1}",
    "stages": "[Stage-0] {1}",
    "lost escapes": "{0:.0}[1;36m{1}[0m",
}


@pytest.mark.parametrize("wrapping", sorted(_STAMPS))
def test_a_failure_shows_the_same_whoever_stamped_its_lines(wrapping):
    rows = [HEAD, LOADING, *_raised(OOM, said="EngineCore failed to start."), "RuntimeError: Engine core died"]
    told = read("\n".join(_STAMPS[wrapping].format(str(at % 10), row) for at, row in enumerate(rows)))
    assert (told.phase, told.cause.class_name, told.cause.line, told.cause.message) == ("weights", "GPU_OOM", 7, OOM)


_OBJECTS = {
    "loki": lambda row: {"line": row, "labels": {"app": "llama"}},
    "a cloud": lambda row: {
        "jsonPayload": {"message": row},
        "severity": "ERROR",
        "kubernetes": {"pod_name": "llama-0"},
    },
    "an agent": lambda row: {"message": row, "level": "info", "service": "vllm"},
    "telemetry": lambda row: {"body": {"stringValue": row}, "severity": "Information"},
    "docker, coloured": lambda row: {"log": f"\x1b[1;36m{row[:12]}\x1b[0;0m{row[12:]}\x1b[0m\n", "stream": "stderr"},
}


@pytest.mark.parametrize("collector", sorted(_OBJECTS))
def test_a_failure_shows_the_same_in_whatever_objects_its_lines_were_kept(collector):
    rows = [HEAD, LOADING, *_raised(OOM, said="EngineCore failed to start."), "Traceback (most recent call last):"]
    rows += [
        '  File "/app/vllm/v1/engine/utils.py", line 1, in wait',
        "RuntimeError: Engine core initialization failed.",
    ]
    told = read("\n".join(json.dumps(_OBJECTS[collector](row)) for row in rows))
    assert (told.phase, told.cause.class_name, told.cause.line, told.cause.message) == ("weights", "GPU_OOM", 7, OOM)


def test_restarts_are_told_apart_where_the_pods_of_a_group_share_a_stream_of_objects():
    rows = [(pod, row) for row in (HEAD, LOADING) for pod in ("llama-0", "llama-1")]
    objects = [json.dumps({"log": row, "kubernetes": {"pod_name": pod}}) for pod, row in rows]
    assert read("\n".join(objects)).phase == "weights"


def test_what_stern_puts_before_lines_is_known_even_where_no_record_shows_it():
    rows = ["Traceback (most recent call last):", '  File "/app/vllm/x.py", line 1, in y', "ImportError: libx.so: no"]
    told = read("\n".join(["+ llama-0 \u203a vllm", *(f"llama-0 vllm {row}" for row in [*rows, "ended"])]))
    assert (told.cause.class_name, told.cause.message) == ("MISSING_DEPENDENCY", rows[2])


def test_what_the_hub_hides_behind_a_refusal_is_a_wrong_name_and_what_it_names_as_gated_is_not():
    asked = ["Traceback (most recent call last):", '  File "/app/x.py", line 1, in raise_for_status']
    answer = "httpx.HTTPStatusError: Client error '401 Unauthorized' for url 'https://huggingface.co/api/models/org/x'"
    link = ["", "The above exception was the direct cause of the following exception:", "", *asked]
    unknown = "huggingface_hub.errors.RepositoryNotFoundError: 401 Client Error. (Request ID: Root=1-6)"
    gated = "huggingface_hub.errors.GatedRepoError: 401 Client Error. (Request ID: Root=1-6)"
    assert _shown(HEAD, *asked, answer, *link, unknown) == ("process", "MODEL_REF")
    assert _shown(HEAD, *asked, answer, *link, gated) == ("process", "PERMISSION")
    assert _shown(HEAD, *asked, answer.replace("401", "401 Client Error")) == ("process", "PERMISSION")
    file = answer.replace("401", "401 Client Error").replace("api/models/org/x", "org/x/resolve/main/config.json")
    assert _shown(HEAD, *asked, file) == ("process", "PERMISSION")


def test_a_path_that_leads_nowhere_is_the_tokenizers_where_only_the_tokenizer_was_looked_for():
    words = "OSError: /models/own is not a local folder and is not a valid model identifier listed on the hub"
    frames = [
        "Traceback (most recent call last):",
        '  File "/app/vllm/tokenizers/registry.py", line 1, in get_tokenizer',
    ]
    assert _shown(HEAD, *frames, words) == ("process", "TOKENIZER")
    assert _shown(HEAD, frames[0], words) == ("process", "MODEL_REF")


def test_a_server_that_ends_with_an_error_of_its_own_says_why_though_it_stops_its_engine_in_order():
    stopping = (
        "(EngineCore pid=7) INFO 11-23 10:05:00 [core.py:1] [shutdown] EngineCore: trigger received signal=SIGTERM"
    )
    rows = [
        "Traceback (most recent call last):",
        '  File "/app/bin/vllm", line 12, in <module>',
        '  File "/app/uvicorn/config.py", line 131, in create_ssl_context',
        "FileNotFoundError: [Errno 2] No such file or directory",
    ]
    assert _shown(HEAD, LOADING, SERVING, stopping, *rows) == ("serving", "BAD_FLAG")


def test_a_value_that_no_parallel_setting_takes_is_named_as_such():
    rows = ["Traceback (most recent call last):", '  File "/app/pydantic/x.py", line 1, in __init__']
    rows += [
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ParallelConfig",
        "tensor_parallel_size",
    ]
    assert _shown(HEAD, *rows, "  Input should be greater than or equal to 1") == ("process", "PARALLEL_CFG")


def test_a_hub_that_cannot_be_reached_is_no_rendezvous_that_failed():
    pool = "(MaxRetryError(\"HTTPSConnectionPool(host='huggingface.co', port=443): Max retries exceeded with url: /api"
    words = f"requests.exceptions.ConnectionError: {pool} Temporary failure in name resolution"
    assert _shown(HEAD, *_raised(words)) == ("process", "MODEL_REF")


def test_torch_stamps_a_month_before_october_with_one_digit():
    stamped = "[E616 02:08:15.931416442 socket.cpp:1023] [c10d] The client socket has timed out after 600000ms while"
    found = read(stamped, 2026).cause
    assert found.class_name == "RENDEZVOUS"
    assert found.at == lines.seconds("2026-06-16T02:08:15.931416Z", None)


def test_what_compose_puts_before_lines_is_known_even_where_no_record_shows_it():
    rows = ["Traceback (most recent call last):", '  File "/app/vllm/x.py", line 1, in y', "ImportError: libx.so: no"]
    told = read("\n".join(f"vllm-1  | {row}" for row in [*rows, "vllm-1 exited"]))
    assert (told.cause.class_name, told.cause.message) == ("MISSING_DEPENDENCY", rows[2])


def test_torch_before_its_stamps_is_understood():
    rows = [
        "[rank0]:[E ProcessGroupNCCL.cpp:563] [Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=2"
    ]
    assert _shown(*rows) == ("process", "NCCL")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("RuntimeError: CUDA driver error: out of memory", "GPU_OOM"),
        ("ray.exceptions.RayTaskError(ModuleNotFoundError): ray::RayWorkerWrapper.x() (pid=1, ip=10.0.0.1)", None),
        ("ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.", "HOST_MEMORY"),
        ("KeyError: 'layers.5.self_attn.qkv_proj.v_proj.weight'", "WEIGHTS_MISMATCH"),
        ("RuntimeError: Triton Error [CUDA]: device kernel image is invalid", "MISSING_DEPENDENCY"),
        ("AssertionError: local_world_size (16) must be less than or equal to the number of visible devices (8).",
         "PARALLEL_CFG"),
        ("ValueError: Failed to find a kernel that can implement the ScaledMM linear layer. Reasons:",
         "MODEL_UNSUPPORTED"),
        ("ValueError: To serve at least one request with the models's max seq len (131072), (4.11 GiB KV cache is",
         "KV_TOO_SMALL"),
        ("OSError: [Errno 99] Cannot assign requested address", "BAD_FLAG"),
        ("TypeError: Error: --enable-auto-tool-choice requires --tool-call-parser", "BAD_FLAG"),
        ("KeyError: \"Reasoning parser 'nobody' not found. Available parsers: deepseek_r1\"", "BAD_FLAG"),
        ("AssertionError: n_physical_experts=256 must be divisible by ep_size=3. Adjust num_redundant_experts.",
         "PARALLEL_CFG"),
        ("ValueError(\"type fp8e4nv not supported in this architecture. The supported fp8 dtypes are ('fp8e5',)\")",
         "MODEL_UNSUPPORTED"),
        ("num_stages=3 num_warps=4", None),
    ],
)  # fmt: skip
def test_words_that_people_meet_are_known(words, expected):
    rows = [HEAD, *_raised(words, said="EngineCore failed to start.")]
    assert _shown(*rows)[1] == (expected or "UNKNOWN")


def test_no_collector_costs_more_the_more_stamps_it_writes():
    rows = [f"Nov 23 10:{at // 60 % 60:02}:{at % 60:02} node-1 vllm[9]: {HEAD}" for at in range(7200)]
    assert re.match(r"Nov", rows[0])
    assert {line.text[:11] for line in lines.lines("\n".join(rows))} == {"vLLM server"}
