import random

import pytest

from llm_rollout.errors import Transient
from llm_rollout.ports import Endpoint, Reply
from llm_rollout.steps import tripwire
from llm_rollout.steps.tripwire import CHAT, TEXTS, Scores

LEADER = Endpoint("default", "pods", "chat-a-0", 8000)


def scores(shift=0.0, tokens=40, words="t"):
    named = tuple(f"{words}{each}" for each in range(tokens))
    return Scores((named,), (tuple(-each / 10 - shift for each in range(tokens)),))


@pytest.mark.parametrize(
    ("shift", "same_commit", "bad"),
    [
        (0.0, True, False),
        (0.1, True, False),
        (0.3, True, True),
        (0.3, False, False),
        (3.0, False, True),
        (-3.0, False, False),
    ],
)
def test_the_limit_depends_on_whether_the_weights_are_the_same(shift, same_commit, bad):
    found = tripwire.compare(scores(shift), scores(), same_commit=same_commit)

    assert bool(found.bad) is bad
    assert found.median_nats == pytest.approx(shift)


def test_a_likelier_text_is_no_loss_but_still_a_difference():
    assert tripwire.compare(scores(-0.3), scores(), same_commit=True).bad
    assert not tripwire.compare(scores(-9.0), scores(), same_commit=False).bad


def test_other_weights_that_know_no_more_and_no_less_of_the_texts_pass():
    """Two models that are both far from the texts differ by nats at every token, in both directions."""
    luck = random.Random(1)  # noqa: S311 - not a secret
    one, other = (Scores(scores().tokens, (tuple(-luck.uniform(5, 20) for _ in range(40)),)) for _ in range(2))

    assert tripwire.compare(one, other, same_commit=True).bad
    assert not tripwire.compare(one, other, same_commit=False).bad


def test_a_few_odd_tokens_do_not_trip_it():
    odd = Scores(scores().tokens, (tuple(-50.0 if each < 10 else -each / 10 for each in range(40)),))

    assert not tripwire.compare(odd, scores(), same_commit=True).bad


@pytest.mark.parametrize("same_commit", [True, False])
def test_other_tokens_are_wrong_only_from_the_same_commit(same_commit):
    found = tripwire.compare(scores(words="x"), scores(), same_commit=same_commit)

    assert ("chat template" in found.bad, "chat template" in found.skipped) == (same_commit, not same_commit)


@pytest.mark.parametrize(
    ("candidate", "stable", "words"),
    [
        (Scores(missing="no prompt_logprobs"), scores(), "no prompt_logprobs"),
        (scores(), Scores(missing="no stable"), "no stable"),
        (scores(tokens=5), scores(tokens=5), "5 tokens, fewer than 16"),
    ],
)
def test_what_cannot_be_compared_is_said(candidate, stable, words):
    found = tripwire.compare(candidate, stable, same_commit=True)

    assert not found.bad
    assert words in str(found.as_json()["log_probabilities"])


class Server:
    """Answers with what ``reply`` makes of a request's path."""

    def __init__(self, reply):
        self.reply, self.asked = reply, []

    def post(self, _endpoint, path, body):
        self.asked.append((path, body))
        if isinstance(self.reply(path), Exception):
            raise self.reply(path)
        return self.reply(path)


def read(reply):
    server = Server(reply)
    ports = type("Ports", (), {"server": server})
    return tripwire.read(ports, LEADER, "chat"), server.asked


ENTRIES = [None, {"17": {"logprob": -0.5, "decoded_token": "a"}}, {"4": {"logprob": -1.5, "decoded_token": "b"}}]
COMPLETION = Reply(200, {"choices": [{"text": "", "prompt_logprobs": ENTRIES}]})
ANSWER = Reply(200, {"choices": [{"message": {}}], "prompt_logprobs": ENTRIES})


def test_all_texts_and_a_chat_are_scored():
    found, asked = read(lambda path: ANSWER if "chat" in path else COMPLETION)

    assert found.tokens == (("17", "4"),) * (len(TEXTS) + 1)
    assert found.logprobs == ((-0.5, -1.5),) * (len(TEXTS) + 1)
    assert [body.get("prompt") for _, body in asked[:-1]] == list(TEXTS)
    assert asked[-1][1]["messages"] == list(CHAT)
    assert all(body["prompt_logprobs"] == 0 and body["max_tokens"] == 1 for _, body in asked)


def test_a_base_model_without_a_template_is_scored_on_the_texts():
    found, _ = read(lambda path: Reply(400, {"error": {}}) if "chat" in path else COMPLETION)

    assert len(found.tokens) == len(TEXTS)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(400, {"error": {"message": "no"}}), "gives no prompt_logprobs (status 400)"),
        (Reply(200, {"choices": [{"text": "a"}]}), "gives no prompt_logprobs (status 200)"),
        (Reply(200, {"choices": [{"prompt_logprobs": [None]}]}), "gives no prompt_logprobs"),
        (Reply(200, {"choices": [{"prompt_logprobs": [{"1": {}}]}]}), "gives no prompt_logprobs"),
        (Reply(200, "hello"), "gives no prompt_logprobs"),
        (Transient("connection refused"), "connection refused"),
    ],
)
def test_a_server_that_cannot_is_no_failure(reply, words):
    found, _ = read(lambda _: reply)

    assert words in found.missing
