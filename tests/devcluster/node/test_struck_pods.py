"""Each fault of ``devcluster fault add`` does to real pods what its name says."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.devcluster

SLEEP = "echo up; exec sleep 3600"


def test_an_unschedulable_pod_finds_no_node_until_the_fault_is_cleared(cluster: Any, pods: Any, fault: Any) -> None:
    fault("unschedulable", "refused-*")
    pods.create("refused-1", SLEEP, pod={"nodeSelector": {"kubernetes.io/hostname": "node-2"}})
    pods.create("accepted", SLEEP)
    message = pods.wait(lambda: pods.events("refused-1", "FailedScheduling"), "the scheduler refuses it")[0]
    assert message.startswith("0/6 nodes are available")
    pods.until_runs("accepted")
    scheduled = next(item for item in pods.get("refused-1").status.conditions if item.type == "PodScheduled")
    assert (scheduled.status, scheduled.reason) == ("False", "Unschedulable")
    cluster.run("fault", "clear")
    pods.until_runs("refused-1")
    assert pods.get("refused-1").spec.node_name == "node-2"


def test_an_image_that_cannot_be_pulled_is_tried_again(pods: Any, fault: Any) -> None:
    fault("image_pull", "unpulled", "--times", "2")
    pods.create("unpulled", SLEEP)
    assert pods.until_waits("unpulled", "ErrImagePull").message.endswith('"any": any: not found')
    assert pods.until_waits("unpulled", "ImagePullBackOff").message.startswith('Back-off pulling image "any": ErrImage')
    assert pods.until_runs("unpulled").restart_count == 0
    assert pods.events("unpulled", "Pulling") == ['Pulling image "any"'] * 2
    assert len([text for text in pods.events("unpulled", "Failed") if text.startswith("Failed to pull image")]) == 2
    assert pods.events("unpulled", "Pulled") == ['Container image "any" already present on machine']


def test_crash_ends_the_container_as_often_as_asked(pods: Any, fault: Any) -> None:
    fault("crash", "struck", "--times", "1", "--exit-code", "42")
    pods.create("struck", SLEEP)
    main = pods.until_runs("struck", restarts=1)
    assert main.last_state.terminated.exit_code == 42
    assert pods.log("struck", previous=True) == "devcluster fault: crash\n"


def test_crash_after_lets_the_container_run_first(pods: Any, fault: Any) -> None:
    fault("crash_after", "later", "--seconds", "1", "--times", "1", "--exit-code", "5")
    pods.create("later", SLEEP)
    main = pods.until_runs("later", restarts=1)
    assert main.last_state.terminated.exit_code == 5
    assert pods.log("later", previous=True) == "up\ndevcluster fault: crash\n"


def test_hang_runs_and_does_nothing(pods: Any, fault: Any) -> None:
    fault("hang", "stuck", "--container", "main")
    probe = {"exec": {"command": ["test", "-e", "/data/said"]}, "periodSeconds": 1, "failureThreshold": 3}
    pods.create("stuck", "touch /data/said; " + SLEEP, startupProbe=probe)
    pods.until_runs("stuck")
    pods.wait(lambda: pods.events("stuck", "Unhealthy"), "its probe says so")
    assert pods.log("stuck") == ""
    assert not (pods.data("stuck") / "said").exists()


def test_slow_start_delays_the_containers_own_command(pods: Any, fault: Any) -> None:
    fault("slow_start", "sluggish", "--seconds", "2")
    pods.create("sluggish", "date +%s >/data/began; " + SLEEP)
    started = pods.until_runs("sluggish").state.running.started_at.timestamp()
    began = pods.data("sluggish") / "began"
    pods.wait(lambda: began.exists() and began.read_text(), "the command has begun")
    assert int(began.read_text()) - started >= 1
    assert pods.main("sluggish").restart_count == 0


def test_a_slow_pull_is_told_at_its_beginning_and_at_its_end(pods: Any, fault: Any) -> None:
    fault("slow_pull", "fetched", "--seconds", "1")
    pods.create("fetched", SLEEP)
    pods.wait(lambda: pods.events("fetched", "Pulling"), "it is being pulled")
    assert pods.main("fetched").state.waiting.reason == "ContainerCreating"
    pods.until_runs("fetched")
    assert pods.events("fetched", "Pulled")[0].startswith('Successfully pulled image "any" in 1.000s')


def test_a_storage_server_that_does_not_answer_keeps_the_pod_from_being_made(pods: Any, fault: Any) -> None:
    store = {"volumes": [{"name": "store", "persistentVolumeClaim": {"claimName": "model-store"}}]}
    fault("mount", "unmounted", "--times", "1")
    pods.create("unmounted", SLEEP, pod=store)
    (message,) = pods.wait(lambda: pods.events("unmounted", "FailedMount"), "the mount fails")
    assert message.startswith('MountVolume.SetUp failed for volume "store" : mount failed: exit status 32')
    pods.until_runs("unmounted")


def test_a_volume_of_a_secret_that_is_missing_cannot_be_mounted(pods: Any) -> None:
    volume = {"volumes": [{"name": "keys", "secret": {"secretName": "nosuch"}}]}
    pods.create("keyless", SLEEP, pod=volume, volumeMounts=[{"name": "keys", "mountPath": "/keys"}])
    message = pods.wait(lambda: pods.events("keyless", "FailedMount"), "the mount fails")[0]
    assert message == 'MountVolume.SetUp failed for volume "keys" : secret "nosuch" not found'
    assert pods.main("keyless").state.waiting.reason == "ContainerCreating"


def test_a_container_killed_for_its_memory_says_so(pods: Any, fault: Any) -> None:
    fault("oom", "hungry", "--said", "up", "--times", "1")
    pods.create("hungry", SLEEP)
    last = pods.until_runs("hungry", restarts=1).last_state.terminated
    assert (last.reason, last.exit_code) == ("OOMKilled", 137)
    assert pods.log("hungry", previous=True) == "up\n"


def test_a_killed_container_ends_by_signal_9(pods: Any, fault: Any) -> None:
    fault("kill", "shot", "--said", "up", "--times", "1")
    pods.create("shot", SLEEP)
    last = pods.until_runs("shot", restarts=1).last_state.terminated
    assert (last.reason, last.exit_code) == ("Error", 137)


def test_an_evicted_pod_has_failed_and_stays_until_somebody_removes_it(pods: Any, fault: Any) -> None:
    fault("evict", "moved", "--said", "up")
    pods.create("moved", SLEEP)
    pods.until_phase("moved", "Failed")
    status = pods.get("moved").status
    assert (status.reason, status.message) == ("Evicted", pods.events("moved", "Evicted")[0])
    assert "The node was low on resource: ephemeral-storage" in status.message
    pods.wait(lambda: pods.main("moved").state.terminated, "its container has ended")
    pods.delete("moved")
    pods.wait(lambda: not pods.exists("moved"), "the pod is gone")


def test_a_startup_probe_without_patience_ends_the_container(pods: Any, fault: Any) -> None:
    fault("startup_probe", "probed", "--said", "up", "--times", "1")
    probe = {"httpGet": {"path": "/health", "port": 1}, "periodSeconds": 1, "failureThreshold": 600}
    pods.create("probed", "trap 'exit 0' TERM; echo up; sleep 3600 & wait", startupProbe=probe)
    pods.until_runs("probed", restarts=1)
    assert pods.events("probed", "Killing")[0] == "Container main failed startup probe, will be restarted"
    (unhealthy, *_) = pods.events("probed", "Unhealthy")
    assert unhealthy.startswith('Startup probe failed: Get "http://10.64.')
    assert unhealthy.endswith(":1: connect: connection refused")
