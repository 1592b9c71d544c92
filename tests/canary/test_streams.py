import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_rollout.canary.streams import Stream

TEXT = "a\u2028ü"
"""Holds a line separator that is no end of an event."""


def event(**value):
    return f"data: {json.dumps(value, ensure_ascii=False)}\r\n\r\n".encode()


WHOLE = b"".join([
    b": keep-alive\n\n",
    event(choices=[{"delta": {"role": "assistant", "content": ""}}]),
    event(choices=[{"delta": {"content": TEXT}}], usage=None),
    event(choices=[{"delta": {}, "finish_reason": "stop"}]),
    event(choices=[], usage={"prompt_tokens": 7, "completion_tokens": 3}),
    b"data: [DONE]\n\n",
])  # fmt: skip


@given(st.lists(st.integers(0, len(WHOLE)), max_size=20))
def test_a_stream_reads_the_same_wherever_it_is_cut_into_pieces(cuts):
    stream, edges = Stream(0.0), [0, *sorted(cuts), len(WHOLE)]
    for start, end in pairwise(edges):
        stream.feed(WHOLE[start:end], 0.1)

    reply = stream.reply(0.2)

    assert (reply.text, reply.tokens, reply.prompt_tokens, reply.failure) == (TEXT, 3, 7, "")
    assert (reply.ttft_ms, reply.total_ms) == (pytest.approx(100), pytest.approx(100))


def test_an_answer_ends_with_its_end_mark_and_its_tokens_with_the_last_text():
    stream = Stream(0.0)
    for moment, text in ((0.1, "a"), (0.3, "b"), (0.4, "c")):
        stream.feed(event(choices=[{"text": text}]), moment)
    stream.feed(event(choices=[{"text": "", "finish_reason": "stop"}]) + b"data: [DONE]\n\n", 0.7)

    reply = stream.reply(0.9)

    assert (reply.ttft_ms, reply.total_ms) == (pytest.approx(100), pytest.approx(700))
    assert reply.itl_ms == pytest.approx(150)


def test_one_token_has_nothing_between():
    stream = Stream(0.0)
    stream.feed(event(choices=[{"text": "a", "finish_reason": "stop"}]) + b"data: [DONE]\n\n", 0.1)

    assert stream.reply(0.2).itl_ms is None


def test_one_piece_of_text_has_nothing_between_however_many_tokens_it_took():
    stream = Stream(0.0)
    stream.feed(event(choices=[{"text": "a"}]), 0.1)
    stream.feed(event(choices=[{"text": "", "finish_reason": "stop"}]), 0.2)
    stream.feed(event(choices=[], usage={"completion_tokens": 2}) + b"data: [DONE]\n\n", 0.2)

    assert stream.reply(0.2).itl_ms is None


def test_the_first_token_is_the_first_text_and_not_the_role():
    stream = Stream(0.0)
    stream.feed(event(choices=[{"delta": {"role": "assistant", "content": ""}}]), 0.1)
    stream.feed(event(choices=[{"delta": {"content": "x"}, "finish_reason": "stop"}]) + b"data: [DONE]\n\n", 0.3)

    assert stream.reply(0.4).ttft_ms == pytest.approx(300)


@pytest.mark.parametrize("data", [b"data: 3\n", b"data: {\n", b'data: {"choices": [1]}\n', b'data: {"usage": 3}\n'])
def test_what_is_no_completion_is_a_failure(data):
    stream = Stream(0.0)
    stream.feed(data + WHOLE, 0.1)

    assert stream.reply(0.2).failure == "stream of something else than completions"
