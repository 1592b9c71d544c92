import json
import os
import re
import signal
import subprocess

import pytest

from devcluster.engines import vllm_cpu
from llm_rollout.manifests import engine

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

SUM = "3+5="
TALK = [{"role": "user", "content": SUM}]
USED_METRICS = (
    "vllm:num_requests_waiting",
    "vllm:num_requests_running",
    "vllm:request_success_total",
    "vllm:kv_cache_usage_perc",
    "vllm:time_to_first_token_seconds_bucket",
    "vllm:generation_tokens_total",
)
"""What the pipeline, its page and the documented dashboards read."""


def shape(value):
    """Names and types of a JSON value; one item stands for a list."""
    if isinstance(value, dict):
        return {name: shape(part) for name, part in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def strangers(standin, real, path="$"):
    """Where a value of the stand-in has a field that the real one has not, or another type."""
    if isinstance(standin, dict) and isinstance(real, dict):
        found = [f"{path}.{name}: not in vLLM" for name in standin.keys() - real.keys()]
        for name in standin.keys() & real.keys():
            found += strangers(standin[name], real[name], f"{path}.{name}")
        return found
    if isinstance(standin, list) and isinstance(real, list):
        return strangers(standin[0], real[0], f"{path}[]") if standin and real else []
    return [] if standin == real else [f"{path}: {standin}, in vLLM {real}"]


def names_of(text):
    """Names and label names of every series."""
    return {
        (match[1], frozenset(re.findall(r'(\w+)="', match[2] or "")))
        for match in re.finditer(r"^([A-Za-z_:]+)(\{[^}]*\})? ", text, re.MULTILINE)
    }


def test_every_flag_that_the_pipeline_renders_is_known_to_vllm(pipeline_spec):
    command = [vllm_cpu.command(), "serve", "--help=all"]
    env = {**os.environ, **vllm_cpu.SETTINGS}
    known = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    spec = pipeline_spec()
    rendered = engine.leader_command(spec, "0" * 40)[3:] + engine.worker_command(spec, "0" * 40)[3:]
    names = {flag.split("=")[0] for flag in rendered}
    assert "--headless" in names
    assert [name for name in sorted(names) if not re.search(rf"{name}\b", known.stdout)] == []


def test_both_serve_with_the_flags_that_the_pipeline_renders(real, standin):
    assert (real.get("/health").status_code, standin.get("/health").status_code) == (200, 200)


@pytest.mark.parametrize("path", ["/v1/models", "/version"])
def test_what_is_read_has_the_same_fields_and_types(real, standin, path):
    assert strangers(shape(standin.get(path).json()), shape(real.get(path).json())) == []


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/completions", {"prompt": SUM}), ("/v1/chat/completions", {"messages": TALK})]
)
def test_answers_have_the_same_fields_and_types(real, standin, path, body):
    ours, theirs = standin.post(path, **body), real.post(path, **body)
    assert (ours.status_code, theirs.status_code) == (200, 200)
    assert strangers(shape(ours.json()), shape(theirs.json())) == []
    assert ours.json()["usage"].keys() >= {"prompt_tokens", "completion_tokens", "total_tokens"}


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/completions", {"prompt": SUM}), ("/v1/chat/completions", {"messages": TALK})]
)
def test_streams_have_the_same_fields_and_end_alike(real, standin, path, body):
    options = {"stream_options": {"include_usage": True}}
    ours, theirs = standin.events(path, **body, **options), real.events(path, **body, **options)
    assert ours[-1] == theirs[-1] == "[DONE]"
    assert strangers(shape(json.loads(ours[0])), shape(json.loads(theirs[0]))) == []
    last, other = json.loads(ours[-2]), json.loads(theirs[-2])
    assert last["choices"] == other["choices"] == []
    assert last["usage"]["completion_tokens"] == other["usage"]["completion_tokens"]


@pytest.mark.parametrize("prompt", [SUM, "17+25=", "Tell me a story."])
def test_both_give_the_same_tokens(real, standin, prompt):
    ours, theirs = (server.post("/v1/completions", prompt=prompt, max_tokens=16).json() for server in (standin, real))
    assert ours["choices"][0]["text"] == theirs["choices"][0]["text"] != ""
    assert ours["choices"][0]["finish_reason"] == theirs["choices"][0]["finish_reason"]
    assert ours["usage"]["prompt_tokens"] == theirs["usage"]["prompt_tokens"]


@pytest.mark.parametrize(
    ("body", "status"), [({"model": "nobody", "prompt": "a"}, 404), ({"prompt": "a", "max_tokens": 100000}, 400)]
)
def test_refusals_have_the_same_status_and_fields(real, standin, body, status):
    ours, theirs = standin.post("/v1/completions", **body), real.post("/v1/completions", **body)
    assert (ours.status_code, theirs.status_code) == (status, status)
    assert strangers(shape(ours.json()), shape(theirs.json())) == []


def test_metrics_have_the_same_names_and_labels(real, standin):
    for server in (real, standin):
        server.post("/v1/completions", prompt=SUM)
    theirs, ours = names_of(real.get("/metrics").text), names_of(standin.get("/metrics").text)
    assert {series for series in ours if series[0].startswith("vllm:")} - theirs == set()
    missing = set(USED_METRICS) - {name for name, _ in ours}
    assert missing == set()


def test_phases_come_in_the_same_order(real, standin):
    reading = pytest.importorskip("llm_rollout.coldstart.reading")
    assert phases(reading, standin) == phases(reading, real)
    assert phases(reading, real)[-1] == "serving"


def phases(reading, server):
    """The phases that a log goes through, each once, as it grows line by line."""
    lines = server.stage.log("leader").splitlines()
    seen = []
    for end in range(1, len(lines) + 1):
        phase = reading.read("\n".join(lines[:end])).phase
        if phase is not None and phase not in seen:
            seen.append(phase)
    return seen


def test_both_end_well_when_asked_to_stop(real_alone, standin_alone):
    for server in (real_alone, standin_alone):
        server.stage.send("leader", signal.SIGTERM)
        assert server.stage.wait_end("leader", 60)
    real_alone.close()
    standin_alone.close()
    assert real_alone.stage.exit_codes == standin_alone.stage.exit_codes == {"leader": 0}
