import random
import re

import pytest

from llm_rollout.canary import resumption
from llm_rollout.canary.comparison import compare
from llm_rollout.canary.rotation import Reply, Rotation
from llm_rollout.canary.rules import Rules
from llm_rollout.canary.task_set import Task
from llm_rollout.canary.trail import Trail

TASKS = tuple(Task(str(number), "yes", f"{number}?") for number in range(400))
RULES = Rules(cap_pairs=1000, tasks=len(TASKS))
OF = "this comparison"


class Servers:
    """Answer the same to the same request, so that a round that is asked again says the same."""

    def __init__(self, errors=0.0, wrong=0.0):
        self.errors, self.wrong, self.asked = errors, wrong, []

    def ask(self, tasks):
        self.asked.append([task.id for task in tasks])
        return [
            (self._reply("stable", task, 0.005, 0.1), self._reply("candidate", task, *self._worse())) for task in tasks
        ]

    def _worse(self):
        return 0.005 + self.errors, 0.1 + self.wrong

    @staticmethod
    def _reply(side, task, errors, wrong):
        luck = random.Random(f"{side} {task.id}")  # noqa: S311 - the same for the same request
        if luck.random() < errors:
            return Reply(failure="status 500")
        ttft_ms = luck.lognormvariate(5.7, 0.5)
        return Reply("no" if luck.random() < wrong else "yes", ttft_ms, ttft_ms + 200, 11, prompt_tokens=5)


def play(servers, state=None, stop_after=None):
    """A comparison, killed after some rounds: what it ended with, and the states it printed."""
    rotation, states = Rotation(TASKS, 1), []
    begun = resumption.unpack(state, OF) if state else None
    trail = begun.trail if begun else Trail()
    if begun:
        rotation.move_to(begun.rotation)

    def tell(standing):
        nonlocal trail
        trail = trail.after(RULES, standing)
        states.append(resumption.pack(standing, rotation, trail, OF))
        if stop_after == len(states):
            raise KeyboardInterrupt

    try:
        return compare(RULES, rotation, servers.ask, tell, begun.standing if begun else None), states
    except KeyboardInterrupt:
        return None, states


@pytest.mark.parametrize("worse", [{}, {"errors": 0.02}, {"wrong": 0.06}], ids=["as good", "errors", "quality"])
def test_a_comparison_killed_after_any_round_ends_as_one_that_was_not(worse):
    uninterrupted = Servers(**worse)
    whole, states = play(uninterrupted)
    assert len(states) > 3

    for killed_after in range(1, len(states)):
        before, after = Servers(**worse), Servers(**worse)
        _, printed = play(before, stop_after=killed_after)
        resumed, further = play(after, state=printed[-1])

        assert resumed == whole
        assert further[-1] == states[-1], "the same pots, and the same way to them"
        assert before.asked + after.asked == uninterrupted.asked


def test_a_round_that_was_not_printed_is_asked_again():
    whole, _ = play(Servers())
    _, printed = play(Servers(), stop_after=4)

    resumed, _ = play(Servers(), state=printed[1])

    assert resumed == whole


def test_the_text_is_short_and_needs_no_quotes():
    _, states = play(Servers())

    assert all(re.fullmatch(r"[\w=-]{1,6000}", state) for state in states)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda state: state[:-8], "cut or was not written"),
        (lambda _: "nonsense", "cut or was not written"),
        (lambda _: "", "cut or was not written"),
        (lambda _: "ä", "cut or was not written"),
    ],
)
def test_what_was_not_printed_here_is_refused(spoil, words):
    _, states = play(Servers(), stop_after=1)

    with pytest.raises(ValueError, match=words):
        resumption.unpack(spoil(states[0]), OF)


def test_another_comparison_s_pots_are_refused():
    _, states = play(Servers(), stop_after=1)

    with pytest.raises(ValueError, match="begin this one anew"):
        resumption.unpack(states[0], "another comparison")
