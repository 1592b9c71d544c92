"""Pairs as worlds make them, for the judge: rates of failures and of answers that one side alone gets wrong."""

from __future__ import annotations

import random
from collections import Counter

from llm_rollout.canary.judge import Judge
from llm_rollout.canary.rounds import Answer, Pair


def answer(*, ok, correct=None):
    return Answer(ok, correct=correct)


def pair(*, stable=True, candidate=True, grades=(None, None)):
    return Pair(answer(ok=stable, correct=grades[0]), answer(ok=candidate, correct=grades[1]))


CLEAN = pair()
SAME = pair(grades=(True, True))
LOST = pair(grades=(True, False))
WON = pair(grades=(False, True))
CANDIDATE_FAILED = pair(candidate=False)
STABLE_FAILED = pair(stable=False)
BOTH_FAILED = pair(stable=False, candidate=False)


def world(candidate_errors=0.005, stable_errors=0.005, lost=0.02, won=0.02):
    """A draw of one pair, given a random source and how many pairs went before."""

    def draw(source, _before):
        stable, candidate = source.random() >= stable_errors, source.random() >= candidate_errors
        if not (stable and candidate):
            return pair(stable=stable, candidate=candidate)
        chance = source.random()
        return LOST if chance < lost else WON if chance < lost + won else SAME

    return draw


def play(rules, draw, seed=0):
    """The end of one comparison."""
    source, judge = random.Random(seed), Judge(rules)  # noqa: S311 - repeatable, not secret
    standing = judge.begin()
    while standing.decision.outcome == "continue":
        before = standing.totals.pairs
        standing = judge.after(standing, [draw(source, before + at) for at in range(rules.round_pairs)])
    return standing


def ends(rules, draw, runs):
    """How many comparisons ended in which way."""
    return Counter(play(rules, draw, seed).decision.outcome for seed in range(runs))
