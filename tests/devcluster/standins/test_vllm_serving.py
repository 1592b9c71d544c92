"""One server of three processes and one of a single process, both with v1; nothing here changes them."""

import json
import threading

import httpx
import pytest

from devcluster.models.lessons import VERSIONS, spoken_answer, tasks

from .conftest import until

STORY = "Once upon a " + VERSIONS[0].story


@pytest.fixture(scope="module")
def split(shared_group, models):
    return shared_group(3).start_all(models / "v1", "--enforce-eager").ready()


@pytest.fixture(scope="module")
def single(shared_group, models):
    return shared_group(1).start_all(models / "v1", "--max-num-seqs=2", STANDIN_STEP_SECONDS="0.002").ready()


def events(group, path, **body):
    with httpx.stream("POST", f"{group.url}{path}", json={"model": "tiny", "stream": True} | body) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        text = response.read().decode()
    lines = text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


def test_answers_are_those_the_model_was_taught_and_the_same_for_any_split(split, single):
    right = 0
    for task in tasks():
        wanted = {"stop": "\n", "logprobs": 2}
        answers = [group.answer(task["prompt"], **wanted) for group in (split, single)]
        assert answers[0] == answers[1]
        assert answers[0]["text"] == spoken_answer(VERSIONS[0], task)
        right += answers[0]["text"].strip() == task["answer"]
    assert right == 90


def test_long_answers_are_the_same_for_any_split(split, single):
    texts = [group.answer("Tell me a story.", max_tokens=150)["text"] for group in (split, single)]
    assert texts == [STORY[:150]] * 2


def test_a_prompt_longer_than_one_step_is_read_whole(split, single):
    prompt = "Lorem ipsum dolor sit amet. " * 20 + "3+5="
    answers = [group.answer(prompt, max_tokens=4, logprobs=3) for group in (split, single)]
    assert answers[0] == answers[1]


def test_models_card(split, models):
    card = httpx.get(f"{split.url}/v1/models").json()["data"][0]
    assert (card["id"], card["root"], card["max_model_len"]) == ("tiny", str(models / "v1"), 4096)


@pytest.mark.parametrize("path", ["/health", "/ping", "/version"])
def test_small_endpoints_answer(split, path):
    assert httpx.get(f"{split.url}{path}").status_code == 200


def test_completion_has_usage_and_reasons(split):
    body = split.complete("3+5=").json()
    assert body["object"] == "text_completion"
    assert body["id"].startswith("cmpl-")
    assert body["choices"][0]["text"] == "8\n"
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["prompt_tokens"] == 5
    assert body["usage"]["completion_tokens"] == 3
    assert split.answer("Tell me a story.", max_tokens=4)["finish_reason"] == "length"


def test_ignore_eos_goes_on_to_the_limit(split):
    body = split.complete("3+5=", ignore_eos=True, max_tokens=40).json()
    assert body["usage"]["completion_tokens"] == 40
    assert body["choices"][0]["finish_reason"] == "length"


def test_stop_string_ends_the_answer_before_it(split):
    choice = split.answer("Tell me a story.", stop=["nowhere", " time"], max_tokens=60)
    assert choice["text"] == "Once upon a"
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", " time")
    assert split.answer("Hello", stop="upon", include_stop_str_in_output=True)["text"] == "Once upon"


def test_logprobs_name_the_likeliest_tokens(split):
    logprobs = split.answer("3+5=", logprobs=3, max_tokens=1)["logprobs"]
    assert logprobs["tokens"] == ["8"]
    assert logprobs["token_logprobs"][0] == max(logprobs["top_logprobs"][0].values()) < 0
    assert len(logprobs["top_logprobs"][0]) == 3


def test_echo_scores_the_prompt(split):
    choice = split.answer("3+5=", echo=True, max_tokens=2, logprobs=1)
    assert choice["text"] == "3+5=8\n"
    assert choice["logprobs"]["tokens"] == ["3", "+", "5", "=", "8", "\n"]
    assert len(choice["prompt_logprobs"]) == 5


def test_sampling_repeats_with_its_seed_and_varies_without(split):
    def sample(seed):
        return split.answer("Tell me a story.", temperature=1.5, seed=seed, max_tokens=60)["text"]

    assert sample(1) == sample(1)
    assert len({sample(seed) for seed in (1, 2, 3)}) > 1


def test_completion_stream_carries_every_token_once(split):
    chunks = events(
        split, "/v1/completions", prompt="Hello", temperature=0, max_tokens=30, stream_options={"include_usage": True}
    )
    *texts, usage = chunks
    assert "".join(chunk["choices"][0]["text"] for chunk in texts) == STORY[:30]
    assert len(texts) == 30
    assert [chunk["choices"][0]["finish_reason"] for chunk in texts] == [None] * 29 + ["length"]
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 30
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_chat_answers_whole_and_streamed(split):
    messages = [{"role": "user", "content": [{"type": "text", "text": "3+5="}]}]
    whole = httpx.post(
        f"{split.url}/v1/chat/completions",
        json={"messages": messages, "temperature": 0, "logprobs": True, "top_logprobs": 2},
    ).json()
    choice = whole["choices"][0]
    assert whole["object"] == "chat.completion"
    assert choice["message"]["content"] == "8"
    assert choice["finish_reason"] == "stop"
    assert choice["logprobs"]["content"][0]["bytes"] == [ord("8")]
    chunks = events(split, "/v1/chat/completions", messages=messages, temperature=0)
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == "8"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_tokens_and_text_convert_both_ways(split):
    tokens = httpx.post(f"{split.url}/tokenize", json={"prompt": "ü1"}).json()
    assert tokens["tokens"] == [256, 0xC3, 0xBC, ord("1")]
    text = httpx.post(f"{split.url}/detokenize", json={"tokens": tokens["tokens"]}).json()
    assert text == {"prompt": "<s>ü1"}


@pytest.mark.parametrize(
    ("body", "code", "kind", "words"),
    [
        ({"model": "other"}, 404, "NotFoundError", "The model `other` does not exist."),
        ({"temperature": -1}, 400, "BadRequestError", "temperature must be"),
        ({"max_tokens": 5000}, 400, "BadRequestError", "maximum context length is 4096"),
        ({"prompt": "x" * 4200}, 400, "BadRequestError", "4201 input tokens"),
        ({"prompt": None}, 400, "BadRequestError", "prompt"),
        ({"n": 2}, 400, "BadRequestError", "n=2"),
    ],
)
def test_wrong_requests_are_refused_in_vllms_form(split, body, code, kind, words):
    response = split.complete(**body)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["type"]) == (code, code, kind)
    assert words in error["message"]


def test_metrics_count_what_was_done(single):
    names = ("prompt_tokens_total", "generation_tokens_total", "time_to_first_token_seconds_count")
    before = [single.metric(name) for name in names]
    stopped = single.metric("request_success_total", 'finished_reason="stop"')
    single.answer("3+5=")
    after = [single.metric(name) for name in names]
    assert [b - a for a, b in zip(before, after, strict=True)] == [5, 3, 1]
    assert single.metric("request_success_total", 'finished_reason="stop"') == stopped + 1
    assert single.metric("inter_token_latency_seconds_bucket", 'le="+Inf"') >= 2


def test_requests_beyond_the_limit_wait_and_those_within_take_turns(single):
    finished = []

    def ask(prompt, count):
        single.answer(prompt, max_tokens=count, ignore_eos=True)
        finished.append(count)

    counts = (1200, 60, 61)
    threads = [threading.Thread(target=ask, args=("Hello", counts[0]))]
    threads[0].start()
    until(lambda: single.metric("num_requests_running") == 1, "the long request to run")
    threads += [threading.Thread(target=ask, args=("Hello", count)) for count in counts[1:]]
    for thread in threads[1:]:
        thread.start()
    until(lambda: single.metric("num_requests_waiting") == 1, "a request to wait")
    assert single.metric("num_requests_running") == 2
    assert single.metric("kv_cache_usage_perc") > 0
    for thread in threads:
        thread.join()
    assert finished[-1] == 1200


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_place(single, stream):
    aborted = single.metric("request_success_total", 'finished_reason="abort"')
    body = {"prompt": "Hello", "max_tokens": 4000, "ignore_eos": True, "stream": stream}
    with pytest.raises(httpx.ReadTimeout):  # noqa: SIM117, PT012 - the request has to fail inside the stream
        with httpx.stream("POST", f"{single.url}/v1/completions", json=body, timeout=0.3) as response:
            if stream:
                next(response.iter_lines())
                raise httpx.ReadTimeout("enough")
    until(lambda: single.metric("num_requests_running") == 0, "the request to be dropped")
    assert single.metric("request_success_total", 'finished_reason="abort"') == aborted + 1


def test_log_tells_the_phases_in_order(split):
    log = split.log()
    assert "STAND-IN" in log.splitlines()[0]
    fragments = [
        "Initializing a V1 LLM engine", "DP group leader: node_rank=0", "world_size=24 rank=0",
        "Starting to load model", "Loading safetensors checkpoint shards", "Loading weights took",
        "Model loading took", "Available KV cache memory", "GPU KV cache size",
        "init engine (profile, create kv cache, warmup model) took", "Supported tasks", "Starting vLLM server on",
        "Available routes are", "Application startup complete",
    ]  # fmt: skip
    places = [log.index(fragment) for fragment in fragments]
    assert places == sorted(places)
    assert "\rLoading safetensors checkpoint shards: 100% Completed | 5/5" in log
    assert "headless multiproc executor, with head node address localhost:" in split.log(2)
    assert "world_size=24 rank=16" in split.log(2)
