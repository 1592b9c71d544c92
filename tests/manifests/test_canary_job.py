from llm_rollout import names
from llm_rollout.canary.task_files import CONFIG_MAP_FOLDER
from llm_rollout.manifests.canary_job import canary_job, resumed_from
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


def test_where_a_job_begins_is_no_part_of_what_it_is_asked_for(make_spec, make_plan):
    spec = make_spec()
    anew, later = (canary_job(spec, make_plan(spec), "run", "run/1", state) for state in ("", "pots"))

    contents = {job["metadata"]["annotations"][names.CONTENT_ANNOTATION] for job in (anew, later)}
    assert len(contents) == 1
    assert (resumed_from(anew), resumed_from(later)) == ("", "pots")


def test_no_second_pod_begins_with_new_pots(make_spec, make_plan):
    spec = make_spec()
    job = canary_job(spec, make_plan(spec), "run", "run/1")["spec"]

    assert job["backoffLimit"] == 0
    assert [rule["action"] for rule in job["podFailurePolicy"]["rules"]] == ["FailJob"]


def test_tasks_of_a_config_map_are_mounted(make_spec, make_plan):
    spec = make_spec({"canary": {"tasks": "configmap:questions/own.jsonl"}})
    pod = canary_job(spec, make_plan(spec), "run", "run/1")["spec"]["template"]["spec"]

    (volume,), (mount,) = pod["volumes"], pod["containers"][0]["volumeMounts"]
    assert volume["configMap"] == {"name": "questions", "items": [{"key": "own.jsonl", "path": "own.jsonl"}]}
    assert (mount["name"], mount["mountPath"]) == (volume["name"], CONFIG_MAP_FOLDER)
