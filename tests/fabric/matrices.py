"""Matrices for tests: fabrics of which some parts are bad."""

import re

from llm_rollout.fabric.matrix import Attempt, Cell, Matrix, Thresholds

RATE = 400.0
HEALTHY = 0.97
_PART = re.compile(r"(?P<node>[A-Z])?((?P<between>[->])(?P<peer>[A-Z]))?(?P<rail>\d)?(?P<side>[<>])?$")


def matrix(nodes, rails, value=lambda *_: HEALTHY, transport="roce", limits=None):
    """``value(client, server, rail)`` is a fraction of the rate, a list of attempts, or None: not measured."""
    names = [chr(ord("A") + index) for index in range(nodes)]
    cells = [
        Cell(client, server, rail, attempts(value(client, server, rail)))
        for client in names
        for server in names
        if client != server
        for rail in range(rails)
    ]
    return Matrix(tuple(names), tuple(range(rails)), RATE, transport, limits or Thresholds(), cells)


def attempts(value):
    if value is None:
        return (Attempt(None, "oob"),)
    if isinstance(value, list):
        return tuple(one if isinstance(one, Attempt) else Attempt(one * RATE) for one in value)
    return (Attempt(value * RATE) if value else Attempt(None, "timeout"),)


def bad(*parts, level=0.5, unmeasured=()):
    """Parts in short: A node, A0 NIC, A0> sends only, A0< receives only, A-B or A-B0 link, A>B0 direction, 0 rail,
    * all. A part may have its own level, as ("A", 0.92); of several the lowest counts.
    """
    known = [part if isinstance(part, tuple) else (part, level) for part in parts]

    def value(client, server, rail):
        if any(_has(part, client, server, rail) for part in unmeasured):
            return None
        return min([at for part, at in known if _has(part, client, server, rail)], default=HEALTHY)

    return value


def _has(part, client, server, rail):
    if part == "*":
        return True
    node, between, peer, of_rail, side = _PART.match(part).group("node", "between", "peer", "rail", "side")
    if of_rail is not None and int(of_rail) != rail:
        return False
    if between:
        return (client, server) == (node, peer) or (between == "-" and (server, client) == (node, peer))
    return node is None or node in {"<": [server], ">": [client]}.get(side, [client, server])


def named(matrix, judgement):
    """What is blamed, in the same short form; the sides of a NIC are not told apart."""
    return sorted(_short(matrix, fault.part) for fault in judgement.faults)


def _short(matrix, part):
    if part.kind == "global":
        return "*"
    rail = "" if part.rail is None else str(matrix.rails[part.rail])
    if part.node is None:
        return rail
    peer = "" if part.peer is None else matrix.nodes[part.peer]
    return matrix.nodes[part.node] + {"link": "-", "direction": ">"}.get(part.kind, "") + peer + rail
