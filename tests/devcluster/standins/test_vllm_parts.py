"""Parts of the stand-in that need no process."""

import numpy as np
import pytest

from devcluster.standins.vllm.arguments import parse
from devcluster.standins.vllm.checks import visible_gpus
from devcluster.standins.vllm.faults import Faults
from devcluster.standins.vllm.metrics import Metrics
from devcluster.standins.vllm.sampling import Sampling, choose, logprobs_of
from devcluster.standins.vllm.text import GrowingText, StopScanner, TextModel
from devcluster.standins.vllm.weights import layers_of


@pytest.mark.parametrize(
    ("layers", "ranks", "shares"),
    [(4, 1, [4]), (4, 3, [2, 1, 1]), (4, 4, [1, 1, 1, 1]), (7, 2, [4, 3]), (2, 3, [1, 1, 0])],
)
def test_layers_are_shared_out_without_gap(layers, ranks, shares):
    ranges = [layers_of(rank, ranks, layers) for rank in range(ranks)]
    assert [len(each) for each in ranges] == shares
    assert [layer for each in ranges for layer in each] == list(range(layers))


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("text", "out", "found"),
    [("one two three", "one ", "two"), ("no match", "no match", None), ("ends with tw", "ends with tw", None)],
)
def test_stop_strings_are_found_however_the_text_is_cut(size, text, out, found):
    scanner, got = StopScanner(("two", "three"), include=False), ""
    for at in range(0, len(text), size):
        safe, stop = scanner.add(text[at : at + size])
        got += safe
        assert "tw" not in safe or text == "ends with tw"
        if stop:
            break
    else:
        got += scanner.rest()
    assert (got, stop) == (out, found)


def test_text_grows_by_whole_characters(models):
    growing = GrowingText(TextModel(models / "v1"), skip_special=True)
    assert [growing.add(byte) for byte in "aü🦊".encode()] == ["a", "", "ü", "", "", "", "🦊"]
    assert growing.add(0xF0) == ""
    assert growing.rest() == "\ufffd"


def test_filters_leave_only_the_likeliest_tokens():
    random = np.random.default_rng(1)
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))

    def drawn(**how):
        return {choose(logits, Sampling(1, **how), random) for _ in range(300)}

    assert drawn(temperature=0) == {0}
    assert drawn() == {0, 1, 2, 3}
    assert drawn(top_k=2) == {0, 1}
    assert drawn(top_p=0.7) == {0, 1}
    assert drawn(min_p=0.2) == {0, 1, 2}


def test_logprobs_are_natural_logs_of_probabilities():
    scored = logprobs_of(np.log(np.array([0.5, 0.3, 0.2], np.float32)) + 7, token=2, count=2)
    assert np.exp(scored.logprob) == pytest.approx(0.2)
    assert {token: round(float(np.exp(p)), 6) for token, p in scored.top.items()} == {0: 0.5, 1: 0.3}


def test_flags_may_be_written_with_underscores_equals_signs_and_units():
    line = (
        "serve /m --served_model_name a b --tensor_parallel_size=8 --max-model-len=8K --trust-remote-code "
        "--no-enable-prefix-caching --kv_cache_dtype fp8 --no-enforce-eager --safetensors-load-strategy prefetch "
        "--shutdown_timeout 5"
    )
    options = parse(line.split())
    assert options.served_names == ("a", "b")
    assert (options.tensor_parallel, options.max_model_len, options.shutdown_timeout_seconds) == (8, 8192, 5)


@pytest.mark.parametrize(
    ("environment", "count"),
    [
        ({}, 8),
        ({"NVIDIA_VISIBLE_DEVICES": "all"}, 8),
        ({"NVIDIA_VISIBLE_DEVICES": "0,1"}, 2),
        ({"NVIDIA_VISIBLE_DEVICES": "void"}, 0),
        ({"NVIDIA_VISIBLE_DEVICES": "0,1", "STANDIN_GPUS": "4"}, 4),
    ],
)
def test_gpus_are_counted_from_the_environment(environment, count):
    assert visible_gpus(environment) == count


def test_faults_with_a_rank_mean_that_rank_alone():
    environment = {"STANDIN_FAIL": "NCCL", "STANDIN_FAIL_RANK": "2", "STANDIN_CRASH_AFTER_SECONDS": "3"}
    assert Faults.from_environment(environment, 2).fail == "NCCL"
    assert Faults.from_environment(environment, 2).crash_after_seconds == 3
    assert Faults.from_environment(environment, 0) == Faults()


def test_an_unknown_failure_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="STANDIN_FAIL=OOM is unknown; known are MODEL_REF"):
        Faults.from_environment({"STANDIN_FAIL": "OOM"}, 0)


def test_a_first_token_is_held_back_by_factor_and_delay():
    faults = Faults.from_environment({"STANDIN_TTFT_FACTOR": "3", "STANDIN_TTFT_DELAY_SECONDS": "0.5"}, 0)
    assert faults.held_back_seconds(0.2) == pytest.approx(0.9)
    assert Faults().held_back_seconds(0.2) == 0


def test_histogram_buckets_are_cumulative_and_bounds_inclusive():
    metrics = Metrics("m")
    for value in (0.3, 0.31, 1e9):
        metrics.observe("e2e_request_latency_seconds", value)
    lines = [line for line in metrics.text(0, 0, 0.0).splitlines() if "e2e" in line and "bucket" in line]
    assert lines[0] == 'vllm:e2e_request_latency_seconds_bucket{engine="0",model_name="m",le="0.3"} 1.0'
    assert lines[1].endswith('le="0.5"} 2.0')
    assert lines[-1].endswith('le="+Inf"} 3.0')
