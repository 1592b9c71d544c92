from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from devcluster.layout import Layout
from devcluster.node import faults, mishaps, refusal
from devcluster.node.faults import Faults


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def switch_on(layout: Layout, *kinds: str, **fields: Any) -> None:
    plain = {"pods": "*", "container": "*", "times": None, "seconds": 0.0, "exit_code": 1}
    layout.faults_file.write_text(json.dumps([plain | {"id": kind, "kind": kind} | fields for kind in kinds]))


def struck(found: Faults, pod: str = "llama-0-1", container: str = "main", kinds: tuple[str, ...] = ("crash",)) -> bool:
    return found.strike(pod, container, kinds) is not None


def test_a_fault_strikes_the_pods_and_containers_it_names(layout: Layout) -> None:
    switch_on(layout, "crash", pods="llama-*-1", container="ma*")
    found = Faults(layout)
    assert struck(found)
    assert not struck(found, pod="llama-0")
    assert not struck(found, container="sidecar")
    assert not struck(found, kinds=("hang",))


def test_a_fault_ends_after_as_many_times_as_it_says(layout: Layout) -> None:
    switch_on(layout, "crash", times=2)
    found = Faults(layout)
    assert [struck(found) for _ in range(3)] == [True, True, False]


def test_only_a_hit_counts(layout: Layout) -> None:
    switch_on(layout, "crash", times=1, pods="llama-*")
    found = Faults(layout)
    assert [struck(found, pod="other"), struck(found), struck(found)] == [False, True, False]


def test_a_cleared_fault_strikes_no_more(layout: Layout) -> None:
    switch_on(layout, "crash")
    found = Faults(layout)
    assert (struck(found), found.ids()) == (True, {"crash"})
    layout.faults_file.write_text("[]")
    assert (struck(found), found.ids()) == (False, set())


def run(kind: str, *argv: str, **fields: Any) -> tuple[int, str]:
    command = faults.command({"kind": kind, **fields}, argv)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout


def test_without_a_fault_the_command_is_the_containers() -> None:
    assert faults.command(None, ["vllm", "serve"]) == ["vllm", "serve"]


@pytest.mark.parametrize("code", [0, 1, 42])
def test_crash_ends_at_once_with_its_exit_code_and_says_why(code: int) -> None:
    assert run("crash", "echo", "never", exit_code=code) == (code, "devcluster fault: crash\n")


def test_crash_after_lets_the_command_run_for_a_while() -> None:
    code, said = run("crash_after", "sh", "-c", "echo began; exec sleep 30", exit_code=7, seconds=2)
    assert (code, said) == (7, "began\ndevcluster fault: crash\n")


def test_crash_after_leaves_a_command_alone_that_ends_earlier() -> None:
    assert run("crash_after", "sh", "-c", "echo done; exit 3", exit_code=7, seconds=3) == (3, "done\n")


def test_crash_after_hands_sigterm_on() -> None:
    handler = "import signal, sys; signal.signal(15, lambda *_: sys.exit(5)); print('up', flush=True); signal.pause()"
    command = faults.command({"kind": "crash_after", "seconds": 60}, [sys.executable, "-c", handler])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 5


def test_slow_start_waits_and_then_becomes_the_command() -> None:
    began = time.monotonic()
    assert run("slow_start", "sh", "-c", "echo $0 $1; exit 4", "a b", "c", seconds=0.3) == (4, "a b c\n")
    assert time.monotonic() - began >= 0.3


def test_a_pod_that_starts_slowly_can_be_ended() -> None:
    command = faults.command({"kind": "slow_start", "seconds": 60}, ["sh", "-c", "exit 1"])
    with subprocess.Popen(["sh", "-c", 'echo up; exec "$@"', "sh", *command], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) in {143, -signal.SIGTERM}


def test_hang_runs_without_a_word_until_it_is_killed() -> None:
    command = faults.command({"kind": "hang"}, ["echo", "never"])
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        subprocess.run(command, capture_output=True, timeout=0.3, check=True)
    assert not caught.value.output


def test_every_fault_that_can_be_added_is_known_here() -> None:
    from devcluster.trouble import FAULTS  # noqa: PLC0415 - only this test looks at the command line's side

    outside = {*mishaps.SUDDEN, *mishaps.PULLS, "slow_pull", "mount", "startup_probe", "unschedulable"}
    assert set(FAULTS) == {*faults.IN_CONTAINER, *outside}


def test_a_sudden_fault_waits_for_the_words_it_names(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    log.write_text("early")
    assert asyncio.run(mishaps.moment({"said": "early", "seconds": 0}, log)) is None
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(mishaps.moment({"said": "late", "seconds": 0}, log), 0.2))


@pytest.mark.parametrize(
    ("kind", "image", "words"),
    [
        ("image_pull", "org/vllm:v9", 'failed to resolve reference "org/vllm:v9": org/vllm:v9: not found'),
        ("image_denied", "org/vllm", "pull access denied"),
        ("image_unreachable", "host:5000/org/vllm:v9", "/v2/host:5000/org/vllm/manifests/v9"),
        ("image_unreachable", "host:5000/org/vllm", "/v2/host:5000/org/vllm/manifests/latest"),
    ],
)
def test_a_refused_pull_is_told_as_containerd_does(kind: str, image: str, words: str) -> None:
    assert words in mishaps.refused_pull(kind, image)


def unscheduled(**selector: str) -> dict[str, Any]:
    return {"metadata": {}, "spec": {"containers": [], "nodeSelector": selector}}


def test_a_refused_pod_keeps_its_own_node_selector() -> None:
    (operation,) = refusal.patch(unscheduled(zone="a"), "1f")
    assert operation["value"] == {"zone": "a", "fault.devcluster/1f": "lifted"}


def test_the_pods_without_a_node_say_which_faults_they_wait_for() -> None:
    bound = unscheduled(**{"fault.devcluster/old": "lifted"})
    bound["spec"]["nodeName"] = "node-1"
    waiting = unscheduled(**{"zone": "a", "fault.devcluster/1f": "lifted"})
    assert refusal.waited_for([bound, waiting, {"spec": {}}]) == {"1f"}


def test_a_pod_of_a_job_is_known_by_what_its_name_will_begin_with() -> None:
    assert refusal.name_of({"metadata": {"name": "llama-0"}}) == "llama-0"
    assert refusal.name_of({"metadata": {"generateName": "stage-"}}).startswith("stage-")
