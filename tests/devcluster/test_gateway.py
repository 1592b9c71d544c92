from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager

import pytest

from devcluster import gateway
from devcluster.gateway import Gateway, Rule

GATEWAYS = {
    "edge/main": {"spec": {"gatewayClassName": "devcluster"}},
    "edge/other": {"spec": {"gatewayClassName": "x"}},
}
SERVICES = {
    "chat/old": {"spec": {"clusterIP": "10.96.0.2"}},
    "chat/new": {"spec": {"clusterIP": "10.96.0.3"}},
}


def route(*rules, parents=({"name": "main", "namespace": "edge"},)):
    metadata = {"name": "r", "namespace": "chat", "generation": 4, "creationTimestamp": "2026-11-24T10:00:00Z"}
    return {"metadata": metadata, "spec": {"parentRefs": list(parents), "rules": list(rules)}}


def seen(*routes):
    return {"routes": {str(index): one for index, one in enumerate(routes)}, "gateways": GATEWAYS, "services": SERVICES}


def ref(name, **more):
    return {"name": name, "port": 80, **more}


def test_rules_hold_addresses_with_their_weights_the_longest_path_first():
    short = {"backendRefs": [ref("old", weight=95), ref("new", weight=5)]}
    long = {"matches": [{"path": {"value": "/v1"}}], "backendRefs": [ref("new"), ref("old", weight=0)]}

    assert gateway.rules(seen(route(short, long))) == [
        Rule("/v1", ((("10.96.0.3", 80), 1),)),
        Rule("/", ((("10.96.0.2", 80), 95), (("10.96.0.3", 80), 5))),
    ]


@pytest.mark.parametrize("parents", [(), ({"name": "other", "namespace": "edge"},), ({"name": "main"},)])
def test_routes_of_other_gateways_are_left_alone(parents):
    found = route({"backendRefs": [ref("old")]}, parents=parents)

    assert gateway.rules(seen(found)) == []
    assert gateway.parents(found, seen()) == []


def test_the_status_names_the_generation_and_what_is_missing():
    (good,) = gateway.parents(route({"backendRefs": [ref("old")]}), seen())
    (bad,) = gateway.parents(route({"backendRefs": [ref("gone")]}), seen())

    told = {one["type"]: (one["status"], one["observedGeneration"]) for one in good["conditions"]}
    assert told == {"Accepted": ("True", 4), "ResolvedRefs": ("True", 4)}
    resolved = bad["conditions"][1]
    assert (resolved["status"], resolved["reason"]) == ("False", "BackendNotFound")
    assert "Service gone does not exist" in resolved["message"]


@asynccontextmanager
async def listening(serve):
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[:2]


def answering(text):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: keep-alive\r\n\r\n" % len(text))
        for letter in text:
            writer.write(bytes([letter]))
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()

    return serve


async def asked(address, path="/v1/models"):
    reader, writer = await asyncio.open_connection(*address)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer


def test_requests_are_shared_out_by_weight_and_arrive_whole():
    async def play():
        async with listening(answering(b"old")) as old, listening(answering(b"new")) as new:
            front = Gateway()
            front.rules = [Rule("/", ((old, 75), (new, 25)))]
            async with listening(front.serve) as address:
                return [await asked(address) for _ in range(400)]

    answers = asyncio.run(play())

    bodies = Counter(answer.partition(b"\r\n\r\n")[2] for answer in answers)
    assert bodies.total() == bodies[b"old"] + bodies[b"new"]
    assert 60 <= bodies[b"new"] <= 140
    assert all(b"Connection: close" in answer and b"keep-alive" not in answer for answer in answers)


def test_a_body_that_follows_its_head_later_arrives_before_the_answer():
    async def echo(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(5)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + body)
        writer.close()

    async def play():
        async with listening(echo) as server:
            front = Gateway()
            front.rules = [Rule("/", ((server, 1),))]
            async with listening(front.serve) as address:
                reader, writer = await asyncio.open_connection(*address)
                writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
                await writer.drain()
                writer.write(b"hello")
                answer = await asyncio.wait_for(reader.read(), 10)
                writer.close()
                return answer

    assert asyncio.run(play()).endswith(b"hello")


def test_what_no_rule_matches_is_not_found_and_what_nobody_serves_is_unavailable():
    async def play():
        async with listening(answering(b"x")) as gone:
            pass
        front = Gateway()
        front.rules = [Rule("/v1", ((gone, 1),)), Rule("/empty", ())]
        async with listening(front.serve) as address:
            return [(await asked(address, path)).split(b" ")[1] for path in ("/v2", "/v1x", "/v1?a=1", "/empty/b")]

    assert asyncio.run(play()) == [b"404", b"404", b"503", b"503"]
