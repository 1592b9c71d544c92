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
    assert 'Failed to pull image "any"' in pods.until_waits("unpulled", "ErrImagePull").message
    pods.until_waits("unpulled", "ImagePullBackOff")
    assert pods.until_runs("unpulled").restart_count == 0


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
