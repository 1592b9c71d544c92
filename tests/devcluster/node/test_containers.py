"""How containers of real pods start, fail, restart and end."""

from __future__ import annotations

import datetime as dt
import re
import time
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

pytestmark = pytest.mark.devcluster

SLEEP = "exec sleep 3600"
COUNT_RUNS = "n=$(cat /data/n 2>/dev/null || echo 1); echo $((n + 1)) >/data/n; echo run $n; "
STORE = {"volumes": [{"name": "store", "persistentVolumeClaim": {"claimName": "model-store"}}]}


def test_a_crashing_container_restarts_after_a_pause_and_keeps_the_log_of_its_last_run(pods: Any) -> None:
    pods.create("crashing", COUNT_RUNS + "[ $n = 3 ] && exec sleep 3600; exit 7")
    main = pods.until_runs("crashing", restarts=2)
    last = main.last_state.terminated
    assert (main.restart_count, last.exit_code, last.reason) == (2, 7, "Error")
    assert (main.state.running.started_at - last.finished_at).total_seconds() >= 1
    assert pods.log("crashing") == "run 3\n"
    assert pods.log("crashing", previous=True) == "run 2\n"
    uid = pods.get("crashing").metadata.uid
    back_off = f"Back-off restarting failed container main in pod crashing_default({uid})"
    assert pods.events("crashing", "BackOff") == [back_off] * 2


def test_during_its_back_off_a_crashed_container_shows_how_it_ended(pods: Any) -> None:
    pods.create("ended", "echo why >/dev/termination-log; exit 9")
    pods.wait(lambda: (main := pods.main("ended")) and main.state.terminated, "it has crashed")
    ended = pods.main("ended").state.terminated
    assert (ended.exit_code, ended.message) == (9, "why\n")
    assert pods.get("ended").status.phase == "Running"


def test_a_signal_shows_in_the_exit_code(pods: Any) -> None:
    pods.create("signalled", "exec sleep 3600.25", pod={"restartPolicy": "Never"})
    pods.until_runs("signalled")
    for process in pods.processes("sleep", "3600.25"):
        process.kill()
    pods.until_phase("signalled", "Failed")
    assert pods.main("signalled").state.terminated.exit_code == 137


def test_a_command_that_does_not_exist_is_named(pods: Any) -> None:
    pods.create("typo", "", command=["vlm", "serve"], pod={"restartPolicy": "Never"})
    pods.until_phase("typo", "Failed")
    ended = pods.main("typo").state.terminated
    assert (ended.exit_code, ended.reason) == (128, "StartError")
    assert "vlm" in ended.message


def test_the_containers_own_path_decides_only_what_it_finds_itself(pods: Any) -> None:
    env = [{"name": "PATH", "value": "/nowhere"}]
    pods.create("lost", "echo $PATH", command=["/bin/sh", "-c", "echo $PATH"], env=env, pod={"restartPolicy": "Never"})
    pods.until_phase("lost", "Succeeded")
    assert pods.log("lost") == "/nowhere\n"


def test_a_container_waits_for_the_configmap_that_it_needs(pods: Any, core: client.CoreV1Api) -> None:
    pods.create("needy", "echo $A; " + SLEEP, envFrom=[{"configMapRef": {"name": "late"}}])
    assert 'configmap "late" not found' in pods.until_waits("needy", "CreateContainerConfigError").message
    core.create_namespaced_config_map("default", {"metadata": {"name": "late"}, "data": {"A": "here"}})
    try:
        pods.until_runs("needy")
        pods.wait(lambda: pods.log("needy") == "here\n", "it has read its variable")
    finally:
        core.delete_namespaced_config_map("late", "default")


def test_init_containers_run_before_the_others_until_they_succeed(pods: Any) -> None:
    mount = [{"name": "data", "mountPath": "/data"}]
    script = COUNT_RUNS + "[ $n = 2 ]"
    first = {"name": "first", "image": "any", "command": ["sh", "-c", script], "volumeMounts": mount}
    pods.create("prepared", "cat /data/n; " + SLEEP, pod={"initContainers": [first]})
    pods.until_runs("prepared")
    init = pods.get("prepared").status.init_container_statuses[0]
    assert (init.restart_count, init.state.terminated.exit_code) == (1, 0)
    pods.wait(lambda: pods.log("prepared") == "3\n", "the other began after the second try")


def probe(command: str, **fields: Any) -> dict[str, Any]:
    return {"exec": {"command": ["sh", "-c", command]}, "periodSeconds": 1, **fields}


def test_readiness_follows_its_probe_both_ways_without_a_restart(pods: Any) -> None:
    pods.create("reader", SLEEP, readinessProbe=probe("test -e /data/ready || (echo no model; false)"))
    pods.until_runs("reader")
    pods.until_ready("reader", ready=False)
    mark = pods.data("reader") / "ready"
    mark.touch()
    pods.until_ready("reader")
    mark.unlink()
    pods.until_ready("reader", ready=False)
    assert pods.main("reader").restart_count == 0
    assert pods.events("reader", "Unhealthy") == ["Readiness probe failed: no model\n"]


def test_a_container_that_does_not_come_up_is_restarted_and_no_other_probe_runs_before(pods: Any) -> None:
    startup = probe("test -e /data/up", failureThreshold=2)
    pods.create("slow", SLEEP, startupProbe=startup, livenessProbe=probe("echo x >>/data/asked"))
    pods.until_runs("slow", restarts=1)
    asked = pods.data("slow") / "asked"
    assert (pods.main("slow").started, asked.exists()) == (False, False)
    asked.with_name("up").touch()
    pods.wait(lambda: pods.main("slow").started, "it counts as started")
    pods.until_ready("slow")
    pods.wait(asked.exists, "the liveness probe runs")
    assert "Container main failed startup probe, will be restarted" in pods.events("slow", "Killing")


def test_a_container_that_hangs_is_killed_without_grace_where_the_pod_grants_none(pods: Any) -> None:
    # Only the first run hangs.
    deaf = COUNT_RUNS + "trap '' TERM; sleep 3600 & while :; do wait; done"
    pods.create("hanging", deaf, livenessProbe=probe("test $(cat /data/n) != 2", failureThreshold=1))
    main = pods.until_runs("hanging", restarts=1)
    assert main.last_state.terminated.exit_code == 137


def test_a_probe_that_ran_into_its_timeout_leaves_no_process(pods: Any) -> None:
    pods.create("patient", SLEEP, readinessProbe=probe("exec sleep 3600.5", failureThreshold=1))
    pods.until_runs("patient")
    pods.wait(lambda: pods.processes("sleep", "3600.5"), "the probe's command runs")
    tries = {process.pid for process in pods.processes("sleep", "3600.5")}
    pods.wait(lambda: {item.pid for item in pods.processes("sleep", "3600.5")} - tries, "the next try began")
    pods.wait(lambda: not tries & {item.pid for item in pods.processes("sleep", "3600.5")}, "the first try has ended")


def test_logs_end_where_they_are_asked_to(pods: Any) -> None:
    pods.create("talker", "seq 1 5000; echo the end; exec sleep 3600")
    pods.until_runs("talker")
    pods.wait(lambda: pods.log("talker", tail_lines=1) == "the end\n", "it has said everything")
    assert pods.log("talker", tail_lines=3) == "4999\n5000\nthe end\n"
    assert pods.log("talker", limit_bytes=4) == "1\n2\n"
    assert len(pods.log("talker").splitlines()) == 5001
    with pytest.raises(ApiException, match="previous terminated"):
        pods.log("talker", previous=True)


def test_following_a_log_ends_with_the_container(pods: Any, core: client.CoreV1Api) -> None:
    pods.create(
        "followed", "echo a; while [ ! -e /data/go ]; do sleep 0.1; done; echo b", pod={"restartPolicy": "Never"}
    )
    pods.until_runs("followed")
    stream = core.read_namespaced_pod_log(
        "followed", "default", follow=True, _preload_content=False, _request_timeout=60
    )
    lines = iter(stream)
    assert next(lines) == b"a\n"
    (pods.data("followed") / "go").touch()
    assert list(lines) == [b"b\n"]


def test_lines_carry_the_time_at_which_they_were_complete(pods: Any) -> None:
    pods.create("stamped", "printf 'half '; while [ ! -e /data/go ]; do sleep 0.1; done; echo done; exec sleep 3600")
    pods.until_runs("stamped")
    pods.wait(lambda: pods.log("stamped") == "half ", "it has said half of a line")
    asked = dt.datetime.now(dt.UTC)
    (pods.data("stamped") / "go").touch()
    pods.wait(lambda: pods.log("stamped") == "half done\n", "it has said the other half")

    stamp, _, line = pods.log("stamped", timestamps=True).partition(" ")

    assert line == "half done\n"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", stamp)
    assert asked <= dt.datetime.fromisoformat(stamp[:26] + "+00:00") <= dt.datetime.now(dt.UTC)


def test_logs_begin_at_the_time_they_are_asked_from(pods: Any) -> None:
    pods.create("twice", "echo old; while [ ! -e /data/go ]; do sleep 0.1; done; echo new; exec sleep 3600")
    pods.until_runs("twice")
    pods.wait(lambda: pods.log("twice") == "old\n", "it has said the first")
    pods.wait(lambda: pods.log("twice", since_seconds=3) == "", "the first is more than three seconds old")
    (pods.data("twice") / "go").touch()
    pods.wait(lambda: pods.log("twice", since_seconds=3) == "new\n", "it has said the second")
    assert pods.log("twice") == "old\nnew\n"


def test_following_with_times_gives_whole_lines_and_ends_with_the_container(pods: Any, core: client.CoreV1Api) -> None:
    script = "echo a; while [ ! -e /data/go ]; do sleep 0.1; done; echo b; printf c"
    pods.create("stamps", script, pod={"restartPolicy": "Never"})
    pods.until_runs("stamps")
    stream = core.read_namespaced_pod_log(
        "stamps", "default", follow=True, timestamps=True, _preload_content=False, _request_timeout=60
    )
    lines = iter(stream)
    assert next(lines).endswith(b"Z a\n")
    (pods.data("stamps") / "go").touch()
    assert [line.split(b" ")[1] for line in lines] == [b"b\n", b"c"]


def on_the_store(name: str) -> dict[str, Any]:
    return {"volumeMounts": [{"name": "store", "mountPath": "/store", "subPath": name}]}


def test_deletion_asks_first_and_waits_until_the_container_has_ended(cluster: Any, pods: Any) -> None:
    script = "trap 'echo asked >>/store/said; exit 0' TERM; echo up; sleep 3600 & wait"
    lifecycle = {"preStop": {"exec": {"command": ["sh", "-c", "echo before >>/store/said"]}}}
    pods.create("polite", script, pod={**STORE}, lifecycle=lifecycle, **on_the_store("polite"))
    pods.until_runs("polite")
    pods.wait(lambda: pods.log("polite"), "it handles SIGTERM")
    pods.delete("polite", seconds=20)
    pods.wait(lambda: not pods.exists("polite"), "it is gone", seconds=15)
    said = cluster.home / "volumes" / "default" / "model-store" / "polite" / "said"
    assert said.read_text() == "before\nasked\n"


def test_deletion_kills_what_does_not_end_within_its_grace_and_reports_it(pods: Any, core: client.CoreV1Api) -> None:
    # The finalizer keeps the object, and with it the last status.
    pods.create("deaf", "trap '' TERM; echo up; " + SLEEP, metadata={"finalizers": ["devcluster/test"]})
    pods.until_runs("deaf")
    pods.wait(lambda: pods.log("deaf"), "it ignores SIGTERM")
    began = time.monotonic()
    pods.delete("deaf", seconds=2)
    try:
        pods.wait(lambda: pods.main("deaf").state.terminated, "its end is reported")
        assert time.monotonic() - began >= 2
        assert pods.main("deaf").state.terminated.exit_code == 137
    finally:
        core.patch_namespaced_pod("deaf", "default", {"metadata": {"finalizers": None}})


def test_two_pods_share_a_claim(pods: Any) -> None:
    never = {"restartPolicy": "Never", **STORE}
    pods.create("writer", "echo weights >/store/file", pod=never, **on_the_store("shared"))
    pods.until_phase("writer", "Succeeded")
    mount = on_the_store("shared")
    mount["volumeMounts"][0]["readOnly"] = True
    pods.create("borrower", "cat /store/file; echo x >/store/file", pod=never, **mount)
    pods.until_phase("borrower", "Failed")
    assert pods.log("borrower").startswith("weights\n")
    assert "Read-only" in pods.log("borrower")
