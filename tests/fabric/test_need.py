import pytest

from llm_rollout.fabric.need import Need, cost, need, sentence

LLAMA_405B = {"hidden_size": 16384, "torch_dtype": "bfloat16"}
KIB, MIB = 2**10, 2**20


def test_two_tensors_of_the_hidden_size_cross_each_boundary():
    assert need(LLAMA_405B, 3, 8) == Need(64 * KIB, 2, 8)
    assert need({"hidden_size": 16384, "dtype": "float32"}, 2, 1) == Need(128 * KIB, 1, 1)
    assert need({"text_config": {"hidden_size": 4096}, "torch_dtype": "torch.float32"}, 2, 1) == Need(32 * KIB, 1, 1)


@pytest.mark.parametrize(
    ("config", "stages", "rails"), [({}, 3, 8), (LLAMA_405B, 1, 8), (LLAMA_405B, 3, 0), ({"hidden_size": "x"}, 3, 8)]
)
def test_nothing_is_said_without_a_boundary_or_a_size(config, stages, rails):
    assert need(config, stages, rails) is None


@pytest.mark.parametrize(
    ("tokens", "rails", "gbps", "milliseconds"),
    [(256, 8, 384, 0.044), (256, 1, 384, 0.35), (256, 1, 25, 5.4), (2048, 8, 384, 0.35), (2048, 1, 10, 107)],
)
def test_times_of_one_boundary_are_those_of_the_405b_table(tokens, rails, gbps, milliseconds):
    one = need(LLAMA_405B, 2, rails)
    assert one.milliseconds(tokens, gbps) == pytest.approx(milliseconds, rel=0.02)


def test_every_boundary_costs():
    assert need(LLAMA_405B, 3, 8).milliseconds(256, 400) == 2 * need(LLAMA_405B, 2, 8).milliseconds(256, 400)


def test_half_the_speed_costs_as_much_again():
    found = cost(Need(64 * KIB, 2, 8), 256, 200, 400)
    assert found.extra_ms == pytest.approx(found.rated_ms)


def test_sentence_says_what_degraded_costs():
    said = sentence(need(LLAMA_405B, 3, 8), 368, 400)
    assert said.startswith("at 368 of 400 Gb/s a token costs 0.0073 ms more when 256 sequences decode")
    assert said.endswith("a prefill chunk of 2048 tokens 0.058 ms more")


def test_sentence_of_the_unknown_and_of_nothing():
    assert "not known" in sentence(None, 368, 400)
    assert "carries nothing" in sentence(need(LLAMA_405B, 3, 8), 0, 400)
