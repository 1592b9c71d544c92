"""Fakes for tests of steps and of whole rollouts: no network, no time, no luck.

State goes in by ``FakeCluster.show`` (which refuses what no cluster could show), state comes out by the ports.
"""

from __future__ import annotations

from llm_rollout.testing.cluster import FakeCluster
from llm_rollout.testing.controllers import Controllers, Ending, Start
from llm_rollout.testing.simulation import (
    GOOD_ENDINGS,
    Clock,
    FakeAccess,
    FakeEvidence,
    FakeHub,
    FakeLogs,
    FakeServer,
    Simulation,
)

__all__ = [
    "GOOD_ENDINGS",
    "Clock",
    "Controllers",
    "Ending",
    "FakeAccess",
    "FakeCluster",
    "FakeEvidence",
    "FakeHub",
    "FakeLogs",
    "FakeServer",
    "Simulation",
    "Start",
]
