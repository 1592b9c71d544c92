from llm_rollout import names
from llm_rollout.manifests.collect_job import Rules, collect_job, collect_job_name

ROOTS = [f"org/b@{'b' * 40}", f"org/a@{'a' * 40}"]


def job_of(make_spec, *, dry_run=False):
    return collect_job(make_spec(), ROOTS, Rules(2, 86400, dry_run), "run/1")


def container(job):
    return job["spec"]["template"]["spec"]["containers"][0]


def test_the_command_names_every_root(make_spec):
    assert container(job_of(make_spec))["command"] == [
        "llm-rollout", "gc", "--store=/models", "--keep=2", "--grace=86400",
        f"--root=org/a@{'a' * 40}", f"--root=org/b@{'b' * 40}",
    ]  # fmt: skip


def test_a_dry_run_mounts_the_store_read_only_and_has_a_name_of_its_own(make_spec):
    wet, dry = job_of(make_spec), job_of(make_spec, dry_run=True)
    assert container(dry)["command"][-1] == "--dry-run"
    assert [container(job)["volumeMounts"][0].get("readOnly", False) for job in (wet, dry)] == [False, True]
    assert wet["metadata"]["name"] != dry["metadata"]["name"]
    assert dry["metadata"]["name"] == collect_job_name("model-store", dry_run=True)


def test_it_holds_no_credentials_and_mounts_the_claim(make_spec):
    spec = job_of(make_spec)["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["volumes"] == [{"name": "model-store", "persistentVolumeClaim": {"claimName": "model-store"}}]
    assert "env" not in container(job_of(make_spec))


def test_it_belongs_to_no_model(make_spec):
    job = job_of(make_spec)
    for part in (job, job["spec"]["template"]):
        assert part["metadata"]["labels"] == {names.STEP_LABEL: "collect_garbage"}


def test_names_are_short_enough_for_the_longest_claim():
    assert len(collect_job_name("c" * 253, dry_run=True)) <= 63
