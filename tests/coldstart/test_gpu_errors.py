"""What torch 2.11 and NCCL 2.28 print when a GPU, an H200, is asked for what it cannot give; without vLLM around it."""

from pathlib import Path

import pytest

from llm_rollout.coldstart.reading import read

_LOGS = Path(__file__).parent / "samples" / "torch-2.11-h200"
_NAMED = {
    "oom": ("GPU_OOM", "Tried to allocate 2.00 GiB"),
    "oom-in-one-piece": ("GPU_OOM", "Tried to allocate 1024.00 GiB"),
    "others-hold-the-memory": ("GPU_OOM", "Process 590 has 136.79 GiB memory in use"),
    "others-hold-nearly-all": ("GPU_OOM", "Process 590 has 136.79 GiB memory in use"),
    "pinned-host-memory": ("GPU_OOM", "CUDA error: out of memory"),
    "no-gpu-visible": ("MISSING_DEPENDENCY", "No CUDA GPUs are available"),
    "no-such-gpu": ("PARALLEL_CFG", "invalid device ordinal"),
    "device-assert": ("ENGINE_BUG", "device-side assert triggered"),
    "two-ranks-on-one-gpu": ("PARALLEL_CFG", "Duplicate GPU detected : rank 0 and rank 1"),
    "no-such-interface": ("NCCL", "Bootstrap : no socket interface found"),
    "no-infiniband": ("NCCL", "Failed to initialize any NET plugin"),
    "peer-never-came": ("RENDEZVOUS", "1/2 clients joined"),
    "no-address": ("RENDEZVOUS", "chat-0.chat.nowhere"),
}
"""NVML tells ids of the host and a container has its own, so whose "Process 590" is cannot be told: maybe its own."""


@pytest.mark.parametrize("name", _NAMED)
def test_an_error_of_a_real_gpu_is_known_by_its_most_telling_words(name):
    class_name, words = _NAMED[name]

    cause = read((_LOGS / f"{name}.log").read_text()).cause

    assert cause.class_name == class_name
    assert words in cause.message


def test_nccl_that_falls_back_to_sockets_has_not_failed():
    assert read((_LOGS / "nccl-without-its-adapter.log").read_text()).cause is None


def test_every_log_is_expected_to_say_something():
    assert {path.stem for path in _LOGS.iterdir()} == {*_NAMED, "nccl-without-its-adapter"}
