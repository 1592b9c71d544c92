"""What a report of the fabric means for a spec. Pure.

Only PASS lets a rollout go on, and DEGRADED where the spec accepts it. Every remedy begins with the part it is about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_rollout.fabric import need
from llm_rollout.spec import RolloutSpec
from llm_rollout.verdict import Done, Fail

_AGAIN = "then clear this task: it measures again"
_REPAIRS = {
    "node": "look at its cables, NICs, drivers and RDMA settings",
    "nic": "look at this port's cable, transceiver and NIC",
    "link": "look at the path between the two: cables, switch ports, routes",
    "direction": "look at the sender's transmit and the receiver's receive side: transceivers, PFC and ECN counters",
    "rail": "look at this rail's switch, VLAN and QoS class",
    "setting": "look at what the pods are given: network attachments, security context, environment",
    "global": "look at what all nodes share: QoS class, GIDs, MTU, network attachments, image",
}
_OF_ONE_NODE = ("node", "nic")


def judge(spec: RolloutSpec, report: Mapping[str, Any]) -> Done | Fail:
    """The transport first: nothing measured over another one tells about RDMA. The sentence names the verdict."""
    if not report:
        return Fail("the Job ended without a report: its output is gone", "clear this task: it measures again")
    fabric, evidence, sentence = spec.fabric, dict(report), report["sentence"]
    if report["transport"] not in fabric.accept_transports:
        accepted = ", ".join(fabric.accept_transports)
        return Fail(
            f"measured over {report['transport']}, accepted is {accepted}: {sentence}",
            "make RDMA reach the pods (server.network), or name the transport in fabric.accept_transports",
            evidence,
        )
    if report["verdict"] == "DEGRADED" and report.get("rows"):
        sentence = f"{sentence}; {_cost(spec, report)}"
    if report["verdict"] == "PASS" or (report["verdict"] == "DEGRADED" and fabric.accept_degraded):
        return Done(sentence, evidence)
    return Fail(sentence, _remedy(report), evidence)


def unfit_node(spec: RolloutSpec, report: Mapping[str, Any]) -> str | None:
    """The one node that the report finds fault with, None when it blames more, something else or nothing."""
    if report.get("transport") not in spec.fabric.accept_transports or report["verdict"] not in ("FAIL", "DEGRADED"):
        return None
    kinds, nodes = {one["kind"] for one in _blamed(report)}, {one["name"] for one in _blamed(report)}
    return nodes.pop() if len(nodes) == 1 and kinds <= set(_OF_ONE_NODE) else None


def _cost(spec: RolloutSpec, report: Mapping[str, Any]) -> str:
    """What the slowest way that was measured costs the model: whether that may go on is the spec's decision."""
    rows = [row for row in report["rows"] if row.get("gbps") is not None and row.get("rate_gbps")]
    if spec.fabric.hidden_size is None or not rows:
        return "what that costs a token is not known: set fabric.hidden_size to the model's, from its config.json"
    slowest = min(rows, key=lambda row: float(row["gbps"]))
    config = {"hidden_size": spec.fabric.hidden_size}
    wanted = need.need(config, spec.server.pipeline_parallel, len(spec.server.network.hcas))
    return need.sentence(wanted, slowest["gbps"], slowest["rate_gbps"])


def _remedy(report: Mapping[str, Any]) -> str:
    if report["verdict"] == "INCONCLUSIVE":
        return f"put right what could not be measured, or told apart ({report['sentence']}), {_AGAIN}"
    parts = [_repair(one, report) for one in _blamed(report)]
    accept = "set fabric.accept_degraded: true to accept it, or " if report["verdict"] == "DEGRADED" else ""
    return accept + "; ".join([*parts, _AGAIN] if parts else [f"look at the evidence, repair what it names, {_AGAIN}"])


def _repair(blame: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """The part, and what to do about it: what the probe says where it needed no traffic to see it."""
    told = [one.get("remedy") for one in report.get("findings", ()) if blame.items() <= one.items()]
    device = f" {blame['detail'].partition(':')[0]}" if blame["kind"] == "nic" else ""
    usual = f"{_REPAIRS.get(blame['kind'], 'see the evidence')} ({blame['detail']})"
    repair = next(filter(None, told), usual)
    return f"{blame['kind']} {blame['name']}{device}: {repair}"


def _blamed(report: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Each with ``kind``, ``name`` and ``detail``; of a node and of its NICs the name is the node's."""
    found: Sequence[Mapping[str, Any]] = report.get("bad", ())
    return found
