from llm_rollout.manifests.canary_job import canary_job
from llm_rollout.rollout import RolloutPlan


def compared(spec, plan):
    command = canary_job(spec, plan, "run", "run/1")["spec"]["template"]["spec"]["containers"][0]["command"]
    return [word.rpartition(":")[2] for word in command if word.startswith(("--candidate=", "--stable="))]


def test_each_revision_is_asked_at_its_own_port(make_spec, make_plan):
    spec = make_spec({"server": {"port": 9000}})

    assert compared(spec, make_plan(spec, stable_port=8000)) == ["9000", "8000"]


def test_a_plan_of_an_older_record_is_read_and_takes_the_port_of_the_spec(make_spec, make_plan):
    spec = make_spec({"server": {"port": 9000}})
    older = make_plan(spec).model_dump(mode="json", exclude={"stable_port"})

    assert compared(spec, RolloutPlan.model_validate(older)) == ["9000", "9000"]
