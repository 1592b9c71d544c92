from __future__ import annotations

from typing import Any

import pytest

from devcluster.node import states
from devcluster.node.states import ContainerState

BEGAN = "2026-01-01T00:00:00Z"


def ended(code: int, *, finished: bool = True, ready: bool = False) -> ContainerState:
    state = states.terminated(code, BEGAN, "run")
    return ContainerState("main", "any", state, finished=finished, ready=ready)


def running(*, ready: bool = True) -> ContainerState:
    return ContainerState("main", "any", states.running(BEGAN), ready=ready)


def waiting(restarts: int = 0) -> ContainerState:
    return ContainerState("main", "any", states.waiting("ContainerCreating"), restarts=restarts)


@pytest.mark.parametrize(
    ("init", "main", "phase"),
    [
        pytest.param([], [waiting()], "Pending", id="nothing began"),
        pytest.param([], [running(), waiting()], "Pending", id="one has still to begin"),
        pytest.param([], [running(), ended(0)], "Running", id="one is done, one runs"),
        pytest.param([], [ended(1, finished=False)], "Running", id="in back-off"),
        pytest.param([], [waiting(restarts=1)], "Running", id="has begun before"),
        pytest.param([], [ended(0), ended(0)], "Succeeded", id="all done"),
        pytest.param([], [ended(0), ended(3)], "Failed", id="one failed for good"),
        pytest.param([running()], [waiting()], "Pending", id="initializing"),
        pytest.param([ended(1, finished=False)], [waiting()], "Pending", id="initializing again"),
        pytest.param([ended(1)], [waiting()], "Failed", id="initialization failed for good"),
        pytest.param([ended(0)], [running()], "Running", id="initialized"),
    ],
)
def test_the_phase_follows_from_the_containers(
    init: list[ContainerState], main: list[ContainerState], phase: str
) -> None:
    assert states.phase(init, main) == phase


@pytest.mark.parametrize(
    ("policy", "main", "init"),
    [("Always", {0, 1}, {1}), ("OnFailure", {1}, {1}), ("Never", set(), set())],
)
def test_the_policy_says_after_which_exit_codes_a_container_starts_again(
    policy: str, main: set[int], init: set[int]
) -> None:
    assert {code for code in (0, 1) if states.starts_again(policy, code, init=False)} == main
    assert {code for code in (0, 1) if states.starts_again(policy, code, init=True)} == init


def pod(status: dict[str, Any] | None = None, policy: str = "Always", **spec: Any) -> dict[str, Any]:
    containers = {"containers": [{"name": "main", "image": "any"}], **spec}
    return {"spec": {"nodeName": "node-2", "restartPolicy": policy, **containers}, "status": status or {}}


def reported(state: dict[str, Any], restarts: int = 0, last: dict[str, Any] | None = None) -> dict[str, Any]:
    entry = {"name": "main", "restartCount": restarts, "state": state, "lastState": last or {}}
    return {"containerStatuses": [entry | {"containerID": "devcluster://abc"}]}


def resumed(state: dict[str, Any], policy: str = "Always", **entry: Any) -> ContainerState:
    (found,) = states.resumed(pod(reported(state, **entry), policy), init=False)
    return found


def test_a_pod_seen_for_the_first_time_waits_for_its_containers() -> None:
    (state,) = states.resumed(pod(), init=False)
    assert (state.state, state.restarts) == ({"waiting": {"reason": "ContainerCreating"}}, 0)


def test_behind_init_containers_the_others_wait_for_the_initialization() -> None:
    manifest = pod(initContainers=[{"name": "first", "image": "any"}])
    assert states.resumed(manifest, init=False)[0].state["waiting"]["reason"] == "PodInitializing"
    assert states.resumed(manifest, init=True)[0].state["waiting"]["reason"] == "ContainerCreating"


@pytest.mark.parametrize("policy", ["Always", "OnFailure"])
def test_a_container_that_was_lost_while_it_ran_counts_as_restarted(policy: str) -> None:
    state = resumed(states.running(BEGAN), policy, restarts=2)
    assert (state.restarts, state.finished) == (3, False)
    lost = state.last_state["terminated"]
    assert (lost["exitCode"], lost["reason"]) == (137, "ContainerStatusUnknown")
    assert lost["containerID"] == "devcluster://abc"


def test_a_pod_that_never_restarts_has_failed_when_its_container_was_lost() -> None:
    state = resumed(states.running(BEGAN), "Never")
    assert (state.finished, state.exit_code, state.restarts) == (True, 137, 0)
    assert states.phase([], [state]) == "Failed"


@pytest.mark.parametrize(
    ("policy", "code", "restarts"),
    [("Always", 0, 1), ("Always", 1, 1), ("OnFailure", 1, 1), ("OnFailure", 0, 0), ("Never", 1, 0)],
)
def test_a_container_in_backoff_starts_again_and_one_that_is_done_does_not(
    policy: str, code: int, restarts: int
) -> None:
    before = states.terminated(code, BEGAN, "abc")
    state = resumed(before, policy)
    assert (state.restarts, state.finished) == (restarts, not restarts)
    assert (state.last_state if restarts else state.state) == before


def test_a_container_that_waits_keeps_its_count_and_its_last_end() -> None:
    last = states.terminated(1, BEGAN, "abc")
    state = resumed(states.waiting("ImagePullBackOff"), restarts=4, last=last)
    assert (state.restarts, state.last_state) == (4, last)


def test_an_init_container_in_backoff_does_not_fail_its_pod() -> None:
    manifest = pod(initContainers=[{"name": "main", "image": "any"}], policy="OnFailure")
    manifest["status"] = {"initContainerStatuses": reported(states.terminated(1, BEGAN, "a"))["containerStatuses"]}
    init = states.resumed(manifest, init=True)
    assert states.phase(init, [waiting()]) == "Pending"
    assert init[0].restarts == 1


def conditions(main: list[ContainerState], address: str = "10.64.1.1") -> dict[str, tuple[str, str]]:
    found = states.pod_status(pod(), address, [], main, BEGAN)["conditions"]
    return {item["type"]: (item["status"], item["reason"]) for item in found}


def test_a_pod_is_ready_when_every_container_is() -> None:
    assert conditions([running(), running()])["Ready"] == ("True", "")
    assert conditions([running(), running(ready=False)])["Ready"] == ("False", "ContainersNotReady")
    assert conditions([ended(0)])["Ready"] == ("False", "PodCompleted")


def test_a_pod_without_network_has_no_address_but_its_nodes() -> None:
    status = states.pod_status(pod(), "", [], [waiting()], BEGAN)
    assert "podIP" not in status
    assert status["hostIP"] == "10.64.0.12"
    assert conditions([waiting()], address="")["PodReadyToStartContainers"][0] == "False"


def test_the_time_of_a_condition_changes_only_with_its_status() -> None:
    before = [{"type": "Ready", "status": "True", "lastTransitionTime": BEGAN}]
    (same,) = states.with_times([{"type": "Ready", "status": "True"}], before)
    (other,) = states.with_times([{"type": "Ready", "status": "False"}], before)
    assert same["lastTransitionTime"] == BEGAN
    assert other["lastTransitionTime"] != BEGAN


def test_success_is_completed_and_failure_is_an_error_unless_a_reason_is_known() -> None:
    ends = [states.terminated(code, BEGAN, "r", reason=reason) for code, reason in ((0, ""), (2, ""), (128, "X"))]
    assert [item["terminated"]["reason"] for item in ends] == ["Completed", "Error", "X"]
