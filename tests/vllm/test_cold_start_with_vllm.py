"""What the pipeline reads out of the real vLLM's logs while it starts, and when it dies."""

import pytest

from devcluster.engines.corpus import models
from devcluster.engines.corpus.running import Stage
from devcluster.engines.corpus.scenarios import ALL
from llm_rollout.coldstart import first_cause, reading

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

SCENARIOS = {scenario.name: scenario for scenario in ALL}


@pytest.fixture
def provoked(tmp_path, tiny_models):
    """Plays a scenario and returns its logs by name, the leader's first."""

    def play(name):
        scenario = SCENARIOS[name]
        group = dict(zip(scenario.names, scenario.ranks, strict=False))
        (tmp_path / "models").mkdir()
        for rank in group.values():
            if rank.model in models.SPOILED:
                models.make(rank.model, tiny_models / "v1", tmp_path / "models")
        stage = Stage(tmp_path / "stage", tmp_path / "models")
        try:
            scenario.play(stage, group)
        finally:
            stage.close()
        return {f"{rank}.log": stage.log(rank) for rank in group}

    return play


def first(logs):
    readings = {name: reading.read(text) for name, text in logs.items()}
    return first_cause.first_of_group(readings, logs)


def test_a_group_that_comes_up_is_followed_to_serving_and_has_no_cause(provoked):
    logs = provoked("healthy-group")
    assert reading.read(logs["leader.log"]).phase == "serving"
    assert first(logs) is None


@pytest.mark.parametrize(
    "name", ["worker-killed-in-load", "wrong-path", "len-too-large", "pipeline-on-cpu", "truncated-on-worker"]
)
def test_a_group_that_dies_ends_in_the_class_of_its_first_cause(provoked, name):
    scenario = SCENARIOS[name]
    cause = first(provoked(name))
    assert cause is not None
    assert (cause.class_name, cause.source) == (scenario.class_name, scenario.first)
