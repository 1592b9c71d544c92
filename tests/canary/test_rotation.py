import json
from collections import Counter

import pytest

from llm_rollout.canary.rotation import Reply, Rotation
from llm_rollout.canary.task_set import Task

TASKS = tuple(Task(str(number), "yes", f"{number}?") for number in range(10))
YES, NO, FAILED = Reply("yes"), Reply("no"), Reply(failure="status 500")


def graded(pair):
    return pair.stable.correct is not None and pair.candidate.correct is not None


def test_every_task_comes_once_before_any_is_repeated():
    rotation, asked = Rotation(TASKS, 1), []
    for _ in range(4):
        some = rotation.next(5)
        asked += [task.id for task in some]
        for task in some:
            rotation.pair(task, YES, YES)

    assert set(asked[:10]) == {task.id for task in TASKS}
    assert Counter(asked) == dict.fromkeys((task.id for task in TASKS), 2)


def test_the_order_is_of_the_seed():
    orders = {seed: [task.id for task in Rotation(TASKS, seed).next(10)] for seed in range(5)}

    assert len({tuple(order) for order in orders.values()}) > 1
    assert orders[3] == [task.id for task in Rotation(TASKS, 3).next(10)]


def test_a_task_is_graded_once():
    rotation = Rotation(TASKS, 1)

    first, again = (rotation.pair(TASKS[0], YES, NO) for _ in range(2))

    assert (first.stable.correct, first.candidate.correct) == (True, False)
    assert not graded(again)
    assert again.candidate.ok


def test_a_task_that_one_side_failed_is_graded_later():
    rotation = Rotation(TASKS, 1)

    assert not graded(rotation.pair(TASKS[0], YES, FAILED))
    assert TASKS[0].id in {task.id for task in rotation.next(10)}
    assert graded(rotation.pair(TASKS[0], YES, YES))


def test_a_round_larger_than_the_set_asks_tasks_again():
    rotation = Rotation(TASKS[:3], 1)

    assert Counter(task.id for task in rotation.next(7)).total() == 7


def test_a_rotation_goes_on_where_another_was():
    whole, rotation = Rotation(TASKS, 1), Rotation(TASKS, 1)
    for each in (whole, rotation):
        for number, task in enumerate(each.next(7)):
            each.pair(task, YES, FAILED if number in {1, 4} else YES)

    later = Rotation(TASKS, 1)
    later.move_to(json.loads(json.dumps(rotation.position())))

    assert [later.next(6) for _ in range(5)] == [whole.next(6) for _ in range(5)]


def test_a_position_among_more_tasks_is_refused():
    with pytest.raises(ValueError, match="other tasks than these 3"):
        Rotation(TASKS[:3], 1).move_to(Rotation(TASKS, 1).position())


def test_what_is_right_without_an_answer_has_no_grade():
    pair = Rotation((Task("a", None, "a?"),), 1).pair(Task("a", None, "a?"), YES, NO)

    assert not graded(pair)
