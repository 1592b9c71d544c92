"""Ranges as whereabouts writes them, and what is left of them."""

import json

import pytest

from llm_rollout.steps.address_pools import pools_of


def attachment(**ipam):
    config = {"cniVersion": "0.3.1", "type": "macvlan", "ipam": {"type": "whereabouts", **ipam}}
    return {"metadata": {"name": "rail", "namespace": "default"}, "spec": {"config": json.dumps(config)}}


def in_use(name, *offsets):
    return {"metadata": {"name": name}, "spec": {"allocations": {str(offset): {"podref": "x/y"} for offset in offsets}}}


@pytest.mark.parametrize(
    ("ipam", "name", "free"),
    [
        pytest.param({"range": "10.0.1.0/29"}, "10.0.1.0-29", 6, id="neither network nor broadcast"),
        pytest.param({"range": "10.0.1.5/29"}, "10.0.1.0-29", 6, id="named after the network"),
        pytest.param({"range": "10.0.1.10-10.0.1.13/24"}, "10.0.1.0-24", 4, id="first to last"),
        pytest.param(
            {"range": "10.0.1.0/24", "range_start": "10.0.1.4", "range_end": "10.0.1.6"},
            "10.0.1.0-24",
            3,
            id="narrowed",
        ),
        pytest.param(
            {"range": "10.0.1.0/29", "exclude": ["10.0.1.0/30", "10.0.1.2/32"]}, "10.0.1.0-29", 3, id="holes overlap"
        ),
        pytest.param(
            {"range": "10.0.1.0/29", "network_name": "rail0"}, "rail0-10.0.1.0-29", 6, id="with a network's name"
        ),
        pytest.param({"ipRanges": [{"range": "10.0.2.0/30"}]}, "10.0.2.0-30", 2, id="a list of ranges"),
        pytest.param({"range": "fd00:1::/126"}, "fd00-1---126", 3, id="IPv6 has no broadcast"),
    ],
)
def test_an_empty_range_has_all_its_addresses(ipam, name, free):
    [pool] = pools_of(attachment(**ipam))

    assert (pool.name, pool.free([])) == (name, free)


def test_only_addresses_of_the_pool_and_inside_the_range_are_taken():
    [pool] = pools_of(attachment(range="10.0.1.10-10.0.1.13/24"))

    assert pool.free([in_use("10.0.1.0-24", 3, 10, 13, 200), in_use("10.0.9.0-24", 11, 12)]) == 2


def test_what_gives_addresses_in_another_way_has_no_pool():
    static = {"spec": {"config": json.dumps({"type": "macvlan", "ipam": {"type": "static"}})}}
    chained = {"spec": {"config": json.dumps({"plugins": [{"ipam": {"type": "whereabouts", "range": "10.0.1.0/30"}}]})}}

    assert list(pools_of(static)) == list(pools_of({"spec": {}})) == []
    assert [pool.free([]) for pool in pools_of(chained)] == [2]


@pytest.mark.parametrize("range_", ["10.0.1.0/99", "ten", "10.0.1.1-ten/24"])
def test_what_cannot_be_understood_is_no_number(range_):
    with pytest.raises(ValueError, match=r"."):
        list(pools_of(attachment(range=range_)))
