"""The rules of peers do what their documentation says, or a comparison with them would flatter."""

import pytest

from benchmarks.canary.peers import RULES
from llm_rollout.canary.rounds import Answer, Pair


def answers(number, *, failed=0, ttft_ms=300.0, wrong=0):
    """So many, the first of them failed, the next ones wrong; times rise a little from one to the next."""
    return [Answer(at >= failed, ttft_ms + at, None, None, at >= failed + wrong) for at in range(number)]


def rounds(candidate, stable=None):
    """60 rounds of 50 pairs."""
    return [list(map(Pair, stable or answers(50), candidate)) for _ in range(60)]


@pytest.mark.parametrize(
    ("rule", "candidate", "end"),
    [
        ("Flagger, docs", answers(50), ("promote", 1250)),
        ("Flagger, docs", answers(50, failed=1), ("rollback", 500)),
        ("Flagger, docs", answers(50, wrong=20), ("promote", 1250)),
        ("Flagger, 250 requests", answers(50, wrong=7), ("rollback", 1250)),
        ("Flagger, 250 requests", answers(50, wrong=6), ("promote", 2500)),
        ("Flagger, 250 requests", answers(50, ttft_ms=1200), ("rollback", 1250)),
        ("Argo, docs", answers(50, failed=2), ("promote", 2500)),
        ("Argo, docs", answers(50, failed=3), ("rollback", 1000)),
        ("Argo, no failure", answers(50, failed=1), ("rollback", 250)),
        ("Kayenta, once", answers(50), ("promote", 3000)),
        ("Kayenta, once", answers(50, failed=1), ("rollback", 3000)),
        ("Kayenta, once", answers(50, ttft_ms=301), ("rollback", 3000)),
        ("Kayenta, every 10 points", answers(50, ttft_ms=301), ("rollback", 500)),
        ("t-test, every round", answers(50, failed=5), ("rollback", 50)),
        ("t-test, every round", answers(50), ("promote", 3000)),
    ],
)
def test_rule(rule, candidate, end):
    assert RULES[rule](rounds(candidate)) == end


def test_kayenta_passes_what_differs_in_few_points():
    # Failures in 20 of 60 points shift the mean, but not the median of the differences.
    played = rounds(answers(50))
    played[::3] = rounds(answers(50, failed=1))[::3]

    assert RULES["Kayenta, once"](played) == ("promote", 3000)
