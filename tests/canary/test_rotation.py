from collections import Counter

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
