import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_rollout.coldstart.first_cause import first_of_group
from llm_rollout.coldstart.reading import read
from llm_rollout.coldstart.signatures import SIGNATURES
from llm_rollout.coldstart.words import LOG_CLASSES, LOG_PHASES, Progress

_SAMPLES = Path(__file__).parent / "samples"
_DEVICES = ("GPU", "CPU")


def _expected():
    for folder in sorted(_SAMPLES.iterdir()):
        listed = folder / "expected.json"
        for name, told in json.loads(listed.read_text()).items() if listed.exists() else ():
            yield f"{folder.name}/{name}", told


EXPECTED = dict(_expected())
HEALTHY = sorted(
    name
    for name, told in EXPECTED.items()
    if told["class"] is None and not any(word in name for word in ("after-a-crash", "terminated"))
)


def texts_of(name):
    folder = _SAMPLES / name
    files = sorted(folder.glob("*.log")) if folder.is_dir() else [folder.with_name(f"{folder.name}.log")]
    return {path.name: path.read_bytes().decode() for path in files}


def class_of(reading):
    return None if reading.cause is None else reading.cause.class_name


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_sample_shows_the_phase_and_the_first_cause_that_it_was_made_to_show(name):
    texts, told = texts_of(name), EXPECTED[name]
    readings = {file: read(text) for file, text in texts.items()}
    if len(texts) > 1:
        found = first_of_group(readings, texts)
        assert (found and found.class_name, found and found.source) == (told["class"], told.get("first"))
    else:
        assert class_of(next(iter(readings.values()))) == told["class"]
    assert readings[told.get("first") or next(iter(readings))].phase == told["phase"]


@pytest.mark.parametrize("name", [name for name in sorted(EXPECTED) if EXPECTED[name].get("others")])
def test_the_first_cause_is_the_same_in_whatever_order_the_files_are_given(name):
    texts = dict(reversed(texts_of(name).items()))
    found = first_of_group({file: read(text) for file, text in texts.items()}, texts)
    assert (found and found.class_name) == EXPECTED[name]["class"]


@pytest.mark.parametrize("name", [name for name in sorted(EXPECTED) if EXPECTED[name].get("others")])
def test_the_other_ranks_of_a_sample_show_what_they_were_made_to_show(name):
    texts = texts_of(name)
    shown = {file: [(told := read(texts[file])).phase, class_of(told)] for file in EXPECTED[name]["others"]}
    assert shown == EXPECTED[name]["others"]


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_log_that_is_cut_anywhere_has_no_cause(name):
    for text in texts_of(name).values():
        rows = text.splitlines(keepends=True)
        for count in range(len(rows)):
            assert read("".join(rows[:count])).cause is None, rows[count - 1]
            assert read("".join(rows[count:])).cause is None, rows[count]


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_log_that_is_cut_at_its_end_shows_no_other_root_than_the_whole(name):
    weak = {None, "UNKNOWN", "PEER_LOST", "TIMEOUT", "RENDEZVOUS", "TERMINATED"}
    for text in texts_of(name).values():
        rows, whole = text.splitlines(keepends=True), class_of(read(text))
        if any(word in name for word in ("after-a-crash", "crash-then", "tokenizer-nowhere")) or whole in weak:
            continue  # Only the end of its chain of errors tells whose path leads nowhere.
        shown = {class_of(read("".join(rows[:count]))) for count in range(0, len(rows), 3)}
        assert shown <= weak | {whole}


def _failing(words, where="EngineCore pid=212"):
    """An engine that ends with ``words`` while it loads, as vLLM logs it."""
    head = f"({where}) ERROR 11-23 10:00:33 [core.py:1584] "
    return [
        "(APIServer pid=1) INFO 11-23 10:00:01 [startup.py:28] vLLM server version 0.33.0, serving model /models/x",
        "(APIServer pid=1) INFO 11-23 10:00:01 [startup.py:96] non-default args: {'model': '/models/x'}",
        f"({where}) INFO 11-23 10:00:22 [gpu_model_runner.py:4979] Starting to load model /models/x...",
        f"{head}EngineCore failed to start.",
        f"{head}Traceback (most recent call last):",
        f'{head}  File "/app/vllm/v1/engine/core.py", line 1550, in run_engine_core',
        f"{head}    engine_core = EngineCoreProc(*args)",
        f"{head}{words}",
        "Process EngineCore:",
        "Traceback (most recent call last):",
        '  File "/usr/lib/python3.12/multiprocessing/process.py", line 314, in _bootstrap',
        "    self.run()",
        words,
        "Traceback (most recent call last):",
        '  File "/usr/local/bin/vllm", line 10, in <module>',
        "    sys.exit(main())",
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}",
    ]


@pytest.mark.parametrize("signature", SIGNATURES, ids=lambda each: f"{each.class_name}-{each.example[:30]}")
def test_each_cause_is_found_in_an_engines_log_with_its_line_and_time(signature):
    rows, number = _failing(signature.example), 8
    if signature.example.startswith("  "):  # the second line of a message
        rows.insert(7, rows[7].replace(signature.example, "pydantic_core.ValidationError: 1 validation error"))
        number = 9
    found = read("\n".join(rows), 2026).cause
    assert (found.class_name, found.line) == (signature.class_name, number)
    assert found.message == " ".join(signature.example.split())
    assert found.at == datetime(2026, 11, 23, 10, 0, 33, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("signature", SIGNATURES, ids=lambda each: f"{each.class_name}-{each.example[:30]}")
@pytest.mark.parametrize("level", ["INFO", "WARNING"])
def test_words_of_a_cause_that_are_only_advice_are_none(signature, level):
    advice = f"(Worker pid=9) {level} 11-23 10:00:23 [x.py:1] {signature.example}"
    assert read("\n".join([*_failing("x")[:3], advice])).cause is None


@pytest.mark.parametrize("signature", SIGNATURES, ids=lambda each: f"{each.class_name}-{each.example[:30]}")
def test_an_error_that_the_start_got_over_is_no_cause(signature):
    error = f"(Worker pid=9) ERROR 11-23 10:00:23 [x.py:1] {signature.example}"
    served = "(APIServer pid=1) INFO 11-23 10:02:00 [entry.py:140] Starting vLLM server on http://0.0.0.0:8000"
    assert read("\n".join([*_failing("x")[:3], error, served])).cause is None


@pytest.mark.parametrize(
    "after",
    [
        "(Worker pid=9) INFO 11-23 10:00:31 [x.py:1] Loading weights took 5.02 seconds",
        "(EngineCore pid=7) INFO 11-23 10:00:31 [x.py:1] init engine (profile, create kv cache, warmup) took 4 s",
    ],
)
def test_an_error_after_which_its_process_or_the_engine_went_on_is_no_cause(after):
    error = "(Worker pid=9) ERROR 11-23 10:00:23 [x.py:1] OSError: [Errno 28] No space left on device"
    other = after.replace("Worker pid=9", "Worker pid=10").replace("init engine", "it").replace("EngineCore", "Other")
    assert read("\n".join([*_failing("x")[:3], error, after])).cause is None
    assert class_of(read("\n".join([*_failing("x")[:3], error, other]))) == "HOST_MEMORY"


def test_a_line_that_anybody_may_have_written_is_a_cause_only_where_the_engine_then_ends():
    rows, line = _failing("vllm.odd.OddError: why"), "preflight: /cache: No space left on device"
    assert read("\n".join([*rows[:3], line])).cause is None
    assert class_of(read("\n".join([*rows[:3], line, *rows[3:]]))) == "HOST_MEMORY"
    assert class_of(read("\n".join([*rows[:3], "/start.sh: line 3: 17 Killed   vllm serve /m"]))) == "HOST_MEMORY"


def test_the_middle_of_a_traceback_whose_head_was_cut_off_is_no_cause():
    rows = _failing("vllm.odd.OddError: why")
    rows[6] = rows[6].replace("engine_core = ", 'raise ValueError("No available memory for the cache blocks")')
    assert class_of(read("\n".join(rows[6:]))) == "UNKNOWN"


@pytest.mark.parametrize("signature", SIGNATURES, ids=lambda each: f"{each.class_name}-{each.example[:30]}")
def test_a_model_path_and_echoed_flags_are_no_cause(signature):
    word = re.sub(r"\W+", "-", signature.example)
    rows = [
        f"$ vllm serve /models/{word} --served-model-name '{signature.example}'",
        f"+ vllm serve '/models/{signature.example}'",
        f"(APIServer pid=1) INFO 11-23 10:00:01 [x.py:9] non-default args: {{'model': '/models/{signature.example}'}}",
    ]
    assert read("\n".join(rows)).cause is None


def test_source_code_in_a_traceback_is_no_cause():
    rows = _failing("vllm.odd.OddError: why")
    rows[6] = rows[6].replace("engine_core = ", 'raise ValueError("No available memory for the cache blocks")')
    found = read("\n".join(rows)).cause
    assert (found.class_name, found.message) == ("UNKNOWN", "vllm.odd.OddError: why")


@pytest.mark.parametrize(
    ("frame", "words", "expected"),
    [
        ("vllm/model_executor/models/llama.py|load_weights", "KeyError: 'model.layers.0.x.weight'", "WEIGHTS_MISMATCH"),
        ("vllm/model_executor/layers/linear.py|weight_loader", "AssertionError", "WEIGHTS_MISMATCH"),
        (
            "vllm/model_executor/model_loader/weight_utils.py|filter_duplicate_safetensors_files",
            "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
            "WEIGHTS_CORRUPT",
        ),
        ("transformers/tokenization_utils_base.py|from_pretrained", "KeyError: 'added_tokens'", "TOKENIZER"),
        ("vllm/transformers_utils/config.py|get_config", "KeyError: 'hidden_size'", "CONFIG_BROKEN"),
        ("vllm/v1/worker/gpu_model_runner.py|execute_model", "AssertionError", "ENGINE_BUG"),
        ("vllm/v1/worker/gpu_model_runner.py|execute_model", "KeyError: 'x'", "ENGINE_BUG"),
        ("vllm/v1/worker/gpu_model_runner.py|_dummy_run", "RuntimeError: kernel, Error Internal", "ENGINE_BUG"),
        ("vllm/v1/worker/gpu_model_runner.py|_dummy_run", "vllm.odd.OddError: x", "UNKNOWN"),
        ("vllm/v1/engine/core.py|__init__", "RuntimeError: x", "UNKNOWN"),
        ("vllm/config/model.py|verify", "ValueError: not on this platform", "BAD_FLAG"),
        ("vllm/config/parallel.py|verify", "ValueError: not on this platform", "PARALLEL_CFG"),
        ("vllm/model_executor/layers/quantization/x.py|get_scheme", "ValueError: odd scheme", "MODEL_UNSUPPORTED"),
    ],
)
def test_an_exception_without_known_words_is_classed_by_what_the_engine_was_at(frame, words, expected):
    file, _, function = frame.partition("|")
    rows = _failing(words)
    rows[5] = rows[5].replace("/app/vllm/v1/engine/core.py", f"/app/{file}").replace("run_engine_core", function)
    assert class_of(read("\n".join(rows))) == expected


def test_in_a_chain_the_exception_that_is_known_counts_not_the_one_that_led_to_it():
    rows = _failing("TimeoutError")[:8]
    head = rows[-1].removesuffix("TimeoutError")
    rows += [f"{head}{text}" for text in (
        "", "The above exception was the direct cause of the following exception:", "",
        "Traceback (most recent call last):", '  File "/app/vllm/v1/executor/multiproc_executor.py", line 509, in get',
        "TimeoutError: RPC call to execute_model timed out.",
    )]  # fmt: skip
    found = read("\n".join(rows)).cause
    assert (found.class_name, found.line) == ("TIMEOUT", 14)


def test_a_message_over_several_lines_is_known_by_any_of_them():
    rows = _failing("pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig")[9:13]
    rows += ["  Value error, User-specified max_model_len (9) is greater than the derived max_model_len (8). [type=x]"]
    found = read("\n".join(rows)).cause
    assert (found.class_name, found.line) == ("BAD_MAX_LEN", 5)


def test_a_configuration_that_is_refused_for_an_unknown_reason_is_a_bad_flag():
    rows = [
        *_failing("pydantic_core._pydantic_core.ValidationError: 1 validation error for CacheConfig")[9:13],
        "  Odd",
    ]
    assert class_of(read("\n".join(rows))) == "BAD_FLAG"


def test_an_error_while_python_tidies_up_is_none():
    rows = ["Exception ignored in: <function X.__del__ at 0x7f>", "Traceback (most recent call last):",
            '  File "/app/x.py", line 1, in __del__', "RuntimeError: CUDA out of memory"]  # fmt: skip
    assert read("\n".join(rows)).cause is None


def test_failed_requests_of_a_serving_engine_are_no_cause():
    rows = ["INFO:     Application startup complete.", "ERROR:    Exception in ASGI application",
            "Traceback (most recent call last):", '  File "/app/x.py", line 1, in call',
            "PermissionError: [Errno 13] Permission denied: '/x.png'"]  # fmt: skip
    assert read("\n".join(rows)).cause is None
    assert read("\n".join(rows)).phase == "serving"


def test_a_worker_that_is_killed_while_the_engine_serves_is_the_cause():
    death = "Worker proc VllmWorker-1 died unexpectedly (exit code: -9), shutting down executor."
    rows = ["INFO:     Application startup complete.", f"(EngineCore pid=8) ERROR 11-23 10:05:00 [m.py:380] {death}"]
    assert class_of(read("\n".join(rows))) == "HOST_MEMORY"


def test_what_fails_after_a_request_to_stop_is_not_the_cause():
    rows = [
        *_failing("x")[:3],
        "KeyboardInterrupt: terminated",
        *_failing("torch.OutOfMemoryError: CUDA out of memory")[3:],
    ]
    told = read("\n".join(rows))
    assert (told.phase, class_of(told)) == ("stopped", "TERMINATED")


def test_an_order_to_stop_after_a_failure_does_not_hide_it():
    stop = "(APIServer pid=1) INFO 11-23 10:09:00 [launcher.py:256] [shutdown] API server: shutdown triggered"
    rows = [*_failing("torch.OutOfMemoryError: CUDA out of memory"), "INFO:     Shutting down", stop]
    assert class_of(read("\n".join(rows))) == "GPU_OOM"


@pytest.mark.parametrize(
    ("rows", "phase", "progress"),
    [
        (["Loading safetensors checkpoint shards:  40% Completed | 2/5 [00:02<00:03,  1.1s/it]"], "weights",
         Progress(40.0, 2, 5)),
        (["(W pid=1) INFO 11-23 10:00:01 [w.py:1] Prefetching checkpoint files: 10% (1/10)"], "weights",
         Progress(10.0, 1, 10)),
        (["(W pid=1) INFO 11-23 10:00:01 [w.py:1] Loading weights took 5.00 seconds"], "weights", Progress(100.0)),
        (["(W pid=1) INFO 11-23 10:00:01 [w.py:1] Starting to load model /models/100%/x..."], "weights", None),
        (["Capturing CUDA graphs (decode, FULL):  20%|██        | 7/35 [00:01<00:02, 11.65it/s]"], "graph_capture",
         Progress(20.0, 7, 35)),
        (["Capturing CUDA graphs (decode, FULL): 100%|██████████| 35/35 [00:03<00:00, 11.65it/s]",
          "(E pid=1) INFO 11-23 10:00:01 [core.py:1] init engine (profile, create kv cache, warmup model) took 4.0 s"],
         "engine_up", None),
        (["$ ./start.sh"], "process", None),
    ],
)  # fmt: skip
def test_the_part_of_a_phase_that_is_done_is_told_where_the_log_tells_it(rows, phase, progress):
    told = read("\n".join(rows))
    assert (told.phase, told.progress) == (phase, progress)


@pytest.mark.parametrize("text", ["", "\n\n", " \r\n"])
def test_an_empty_log_shows_nothing(text):
    told = read(text)
    assert (told.phase, told.progress, told.cause, told.last_line) == (None, None, None, "")


def test_what_moves_last_is_dated_where_the_year_is_known():
    rows = [
        "(W pid=1) INFO 11-23 10:00:01 [w.py:1] Starting to load model /m...",
        "(W pid=1) WARNING 11-23 10:09:01 [shm_broadcast.py:1] No available shared memory broadcast block found",
    ]
    moved = datetime(2026, 11, 23, 10, 0, 1, tzinfo=UTC).timestamp()
    assert read("\n".join(rows), 2026).moved_at == moved
    assert read("\n".join(rows)).moved_at is None
    stamped = "\n".join(f"2026-11-23T10:00:0{at}.500000000Z {row}" for at, row in enumerate(rows, start=1))
    assert read(stamped).moved_at == moved + 0.5


def test_a_rendezvous_that_timed_out_and_then_came_about_is_no_cause():
    rows = [
        "(Worker pid=9) INFO 11-23 10:00:01 [p.py:1] world_size=2 rank=1 local_rank=0 distributed_init_method=tcp://a:1",
        "[E1123 10:00:41.4460013 socket.cpp:1028] [c10d] The client socket has timed out after 40000ms while trying to",
    ]
    after = "(Worker pid=9) INFO 11-23 10:00:50 [x.py:1] Starting to load model /models/x..."
    assert class_of(read("\n".join(rows))) == "RENDEZVOUS"
    assert read("\n".join([*rows, after])).cause is None


def test_a_bar_that_stands_still_does_not_move():
    bar = "2026-11-23T10:00:0{}Z Loading safetensors checkpoint shards: {}% Completed | {}/5 [00:02<00:03,  1.1s/it]"
    told = read("\n".join((bar.format(1, 20, 1), bar.format(2, 40, 2), bar.format(3, 40, 2))))
    assert told.moved_at == datetime(2026, 11, 23, 10, 0, 2, tzinfo=UTC).timestamp()


def test_secrets_in_the_words_of_an_error_are_masked_and_long_ones_are_cut():
    words = (
        "huggingface_hub.errors.GatedRepoError: 401 hf_abcdefghijkl Bearer abcdefghijkl api_key=abcdefghijkl "
        + 999 * "x"
    )
    told = read("\n".join(_failing(words)))
    assert "abcdefghijkl" not in told.cause.message
    assert len(told.cause.message) <= 500
    assert len(told.last_line) <= 500


_PLAIN = ["oom-on-one-rank", "healthy-gpu", "terminated", "died-while-serving", "unknown-exception"]


def _json_lines(rows):
    return [
        json.dumps({"log": row, "stream": "stderr", "time": "2026-11-23T10:00:00Z"}) if row else row for row in rows
    ]


_WRAPPINGS = {
    "carriage returns": lambda rows: [f"{row}\r" for row in rows],
    "colours": lambda rows: [f"\x1b[1;36m{row[:14]}\x1b[0;0m{row[14:]}" for row in rows],
    "kubectl --timestamps": lambda rows: [f"2026-11-23T10:00:00.123456789Z {row}" for row in rows],
    "CRI": lambda rows: [f"2026-11-23T10:00:00.123456789+01:00 stderr F {row}" for row in rows],
    "kubectl --prefix": lambda rows: [f"[pod/llama-0/vllm] {row}" for row in rows],
    "kubectl --prefix --timestamps": lambda rows: [f"[pod/llama-0/vllm] 2026-11-23T10:00:00Z {row}" for row in rows],
    "stern": lambda rows: [f"llama-0 vllm {row}" for row in rows],
    "compose": lambda rows: [f"vllm-1  | {row}" for row in rows],
    "JSON lines": _json_lines,
    "byte order mark": lambda rows: ["\ufeff" + rows[0], *rows[1:]],
    "torch's ranks": lambda rows: [
        f"[rank0]: {row}" if re.match(r"Trace|  |[\w.]+Error:", row) else row for row in rows
    ],
}


def _gist(text):
    told = read(text)
    cause = told.cause
    return told.phase, told.progress, cause and (cause.class_name, cause.line, cause.message)


@pytest.mark.parametrize("wrapping", sorted(_WRAPPINGS))
@pytest.mark.parametrize("name", _PLAIN)
def test_a_log_shows_the_same_however_it_was_collected(name, wrapping):
    text = (_SAMPLES / "written" / f"{name}.log").read_bytes().decode()
    assert _gist("\n".join(_WRAPPINGS[wrapping](text.split("\n")))) == _gist(text)


_PIECES = st.sampled_from([
    *[each.example for each in SIGNATURES], "Traceback (most recent call last):", '  File "x.py", line 1, in y', "",
    "(Worker_TP0 pid=7) ERROR 11-23 10:00:01 [x.py:1] ",
    "(APIServer pid=1) INFO 13-99 99:00:01 [x.py:1] ", "\r",
    "\x1b[", "{", '{"message": "x"}', '{"log": "Traceback (most recent call last):\\nMemoryError"}',
    "2026-99-23T10:00:01Z ",
    "[pod/x/y] ", "Loading 101%", "Loading safetensors checkpoint shards: 50% | 1/", "vLLM server version 1",
    "During handling of the above exception, another exception occurred:", "KeyboardInterrupt", "non-default args: {",
])  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(_PIECES, st.text(max_size=40)), max_size=30), st.sampled_from(["\n", "\r\n", " ", ""]))
def test_whatever_a_file_holds_is_read(pieces, between):
    text = between.join(pieces)
    told = read(text)
    assert told.phase is None or told.phase in LOG_PHASES
    assert told.cause is None or (told.cause.class_name in LOG_CLASSES and 1 <= told.cause.line <= text.count("\n") + 1)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_noise_of_other_processes_between_the_lines_changes_nothing(data):
    text = (_SAMPLES / "written" / "oom-on-one-rank.log").read_bytes().decode()
    noise = [
        "(Worker_TP7 pid=307) INFO 11-23 10:00:34 [x.py:1] CUDA out of memory is possible",
        "",
        "leaked 1 semaphore",
    ]
    rows = []
    for row in text.split("\n"):
        rows += [row, data.draw(st.sampled_from(noise))] if data.draw(st.booleans()) else [row]
    told = read("\n".join(rows))
    assert (told.phase, class_of(told)) == ("weights", "GPU_OOM")
    assert "CUDA out of memory. Tried" in rows[told.cause.line - 1]


def test_megabytes_are_read_in_about_a_second():
    text = (_SAMPLES / "written" / "died-while-serving.log").read_bytes().decode()
    access = '(APIServer pid=1) INFO:     10.0.0.9:41000 - "POST /v1/completions HTTP/1.1" 200 OK\n'
    cut = text.index("(Worker_TP1 pid=301) ERROR")
    started = time.perf_counter()
    told = read(text[:cut] + access * 30_000 + text[cut:])
    assert class_of(told) == "ENGINE_BUG"
    assert time.perf_counter() - started < 5
