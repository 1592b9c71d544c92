import pytest

from llm_rollout.manifests.fabric_job import fabric_job


def _pod(spec):
    return fabric_job(spec, ["node-1", "node-2"], "run/1")[-1]["spec"]["template"]["spec"]


def _flags(spec):
    command = _pod(spec)["containers"][0]["command"]
    return dict(
        part.removeprefix("--").split("=", 1) for part in command if part.startswith("--") and "hca" not in part
    )


def test_traffic_is_marked_as_the_fabric_says(make_spec):
    flags = _flags(make_spec({"fabric": {"traffic_class": 0, "service_level": 3, "queue_pairs": 8, "attempts": 2}}))
    marks = (flags["traffic-class"], flags["service-level"], flags["queue-pairs"], flags["attempts"])
    assert marks == ("0", "3", "8", "2")


def test_traffic_is_marked_as_nccl_is_told_where_the_fabric_says_nothing(make_spec):
    nccl = {"NCCL_IB_TC": "106", "NCCL_IB_SL": "3", "NCCL_IB_GID_INDEX": "5"}
    flags = _flags(make_spec({"server": {"network": {"nccl_env": nccl}}, "fabric": {"traffic_class": 41}}))
    assert (flags["traffic-class"], flags["service-level"], flags["gid-index"]) == ("41", "3", "5")


@pytest.mark.parametrize("flag", ["traffic-class", "service-level", "gid-index"])
def test_marks_that_nobody_sets_are_left_to_the_tools(make_spec, flag):
    assert flag not in _flags(make_spec())


def test_annotations_are_mounted_only_where_networks_are_attached(make_spec):
    assert _pod(make_spec())["volumes"][0]["name"] == "annotations"
    without = make_spec({"server": {"network": {"attachments": []}}})
    assert "volumes" not in _pod(without)
    assert "annotations" not in _flags(without)


def test_nccl_takes_the_gpus_and_only_where_it_is_asked_for(make_spec):
    assert "nvidia.com/gpu" not in _pod(make_spec())["containers"][0]["resources"]["limits"]
    spec = make_spec({"fabric": {"nccl": True}})
    assert _pod(spec)["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 8
    assert _flags(spec)["nccl-command"] == "nccl-check"
