"""Only a real API server decides who of many was first."""

import threading

import pytest

from llm_rollout import lease
from llm_rollout.adapters.kube import KubeCluster
from llm_rollout.errors import Conflict

pytestmark = pytest.mark.devcluster

NAMESPACE = "default"
NOW = 1_790_000_000.0


def test_of_many_that_want_the_lease_at_once_one_gets_it(cluster, name):
    ready = threading.Barrier(8)
    told = {}

    def want(run):
        with cluster.api() as own:
            kube = KubeCluster(own)
            seen = lease.read(kube, NAMESPACE, name)
            ready.wait(30)
            try:
                lease.take(kube, seen, run, 60, NOW)
            except Conflict:
                told[run] = "late"
            else:
                told[run] = "holds"

    threads = [threading.Thread(target=want, args=(f"run-{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    with cluster.api() as own:
        found = lease.read(KubeCluster(own), NAMESPACE, name)
    assert sorted(told.values()) == ["holds"] + ["late"] * 7
    assert told[found.holder] == "holds"
    assert found.token == 1


def test_a_lease_past_its_time_goes_to_the_first_who_takes_it_with_a_greater_token(kube, name):
    lease.take(kube, lease.read(kube, NAMESPACE, name), "run-1", 60, NOW)
    later = NOW + 120
    seen = lease.read(kube, NAMESPACE, name)
    assert not seen.may_take("run-2", (), NOW + 30)
    assert seen.may_take("run-2", (), later)

    lease.take(kube, seen, "run-2", 60, later)
    with pytest.raises(Conflict):
        lease.take(kube, seen, "run-3", 60, later)

    found = lease.read(kube, NAMESPACE, name)
    assert (found.holder, found.token) == ("run-2", 2)


def test_a_lease_that_was_given_back_is_free_and_remembers_its_token(kube, name):
    lease.take(kube, lease.read(kube, NAMESPACE, name), "run-1", 60, NOW)
    lease.release(kube, lease.read(kube, NAMESPACE, name), "run-1", NOW)

    found = lease.read(kube, NAMESPACE, name)
    assert (found.holder, found.token) == ("", 1)
    assert found.may_take("run-2", (), NOW)
