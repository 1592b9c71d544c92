import pytest

from llm_rollout.errors import Permanent
from llm_rollout.fabric.places import Place, by_hand, in_job


@pytest.mark.parametrize("hostname", ["tiny-fabric-abc-1", "tiny-fabric-abc-1-x7k2p", "tiny-fabric-abc-1.tiny.ns.svc"])
def test_members_of_a_job_are_named_after_it(hostname):
    places = in_job(hostname, 1, 3, "tiny-fabric-abc.ns", 18500)
    assert [member.host for member in places.members] == [f"tiny-fabric-abc-{n}.tiny-fabric-abc.ns" for n in range(3)]
    assert places.coordinator == Place("tiny-fabric-abc-0.tiny-fabric-abc.ns", 18500)
    assert places.members[2].name == "tiny-fabric-abc-2"


def test_coordinator_reaches_itself_without_a_name():
    assert in_job("job-0", 0, 2, "job", 18500).coordinator == Place("127.0.0.1", 18500)
    assert by_hand(["127.0.0.1:5", "127.0.0.1:9"], 0).coordinator == Place("127.0.0.1", 5)


def test_addresses_by_hand_may_be_ipv6():
    assert by_hand(["[::1]:5", "[::1]:9"], 1).members[1] == Place("::1", 9)


def test_host_name_without_the_index_is_refused():
    with pytest.raises(Permanent, match="--addresses"):
        in_job("laptop", 1, 3, "x", 18500)


def test_index_outside_the_members_is_refused():
    with pytest.raises(Permanent, match="outside"):
        in_job("job-3", 3, 3, "x", 18500)
    with pytest.raises(Permanent, match="outside"):
        by_hand(["a:1", "b:2"], 2)
