from llm_rollout.manifests.stage_job import stage_job

COMMIT = "1" * 40
S3 = "s3://bucket/models"


def container(spec):
    return stage_job(spec, COMMIT, "run/1")["spec"]["template"]["spec"]["containers"][0]


def test_a_model_in_an_object_store_is_staged_from_there_with_the_keys_of_its_secret(make_spec):
    made = container(make_spec({"model": {"repo": "org/chat", "endpoint": S3, "source_secret": "object-store"}}))

    assert {f"--endpoint={S3}", "--repo=org/chat", f"--revision={COMMIT}"} <= set(made["command"])
    assert made["envFrom"] == [{"secretRef": {"name": "object-store"}}]


def test_without_a_secret_the_job_takes_what_its_node_grants(make_spec):
    assert "envFrom" not in container(make_spec({"model": {"repo": "org/chat", "endpoint": S3}}))
