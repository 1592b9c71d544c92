"""How peers decide who is bad, written anew from what they publish. All get the same cells, attempts and limit.

Each takes the pairs in which at least one direction on one rail stays below the limit, and names nodes: none of them
names a NIC, a link, a rail or a setting.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass

from llm_rollout.fabric.rounds import rounds

Pair = frozenset[int]
_PARTNERS = 2


@dataclass(frozen=True)
class Said:
    """The nodes called bad, and whether anything at all was seen to be wrong."""

    nodes: frozenset[int]
    alarm: bool


Rule = Callable[[int, Collection[Pair], random.Random], Said]


def plain_threshold(_: int, bad: Collection[Pair], __: random.Random) -> Said:
    """Every pair measured, both ends of a bad one named."""
    return Said(frozenset(node for pair in bad for node in pair), bool(bad))


def two_partners(nodes: int, bad: Collection[Pair], _: random.Random) -> Said:
    """OCI's active check: bad after failing with two different partners, before that only potentially so.

    Nodes meet in rounds; one that was called bad is measured no more.
    """
    failed: dict[int, set[int]] = defaultdict(set)
    for pairs in rounds(nodes):
        out = _twice(failed)
        for one, other in pairs:
            if frozenset((one, other)) in bad and not {one, other} & out:
                failed[one].add(other)
                failed[other].add(one)
    return Said(_twice(failed), bool(failed))


def _twice(failed: dict[int, set[int]]) -> frozenset[int]:
    return frozenset(node for node, partners in failed.items() if len(partners) >= _PARTNERS)


def two_passes(nodes: int, bad: Collection[Pair], chance: random.Random) -> Said:
    """Google's cluster health scanner: random pairs, then each suspect with a node that has passed.

    The odd one out is paired with a node that has had its turn. Where nobody passed nobody can be named.
    """
    order = chance.sample(range(nodes), nodes)
    pairs = [frozenset(order[index : index + 2]) for index in range(0, nodes - 1, 2)]
    if nodes % 2:
        pairs.append(frozenset((order[-1], chance.choice(order[:-1]))))
    suspects = {node for pair in pairs if pair in bad for node in pair}
    passed = [node for node in order if node not in suspects]
    if not passed:
        return Said(frozenset(), bool(suspects))
    named = frozenset(node for node in suspects if frozenset((node, chance.choice(passed))) in bad)
    return Said(named, bool(suspects))


RULES: dict[str, Rule] = {
    "two partners (OCI)": two_partners,
    "two passes (Google)": two_passes,
    "plain threshold": plain_threshold,
}
