"""Each class of failed cold starts once, through the real steps: the first cause is named, and what shows it is kept.

The whole table, with the times, is ``python -m benchmarks.coldstart``.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.coldstart.__main__ import play, site
from benchmarks.coldstart.failures import TABLE
from benchmarks.coldstart.site import Outcome
from llm_rollout.coldstart.words import CLUSTER_CLASSES, LOG_CLASSES
from llm_rollout.verdict import Fail

SIDE_BY_SIDE = 4
MOST_SECONDS = 75.0
"""Five times what ``benchmarks.coldstart`` asks for: other tests may run beside this one."""
ROWS = tuple({row.causes: name for name, row in reversed(TABLE.items())}.values())
"""The first row of each class."""


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[str, Outcome]]:
    """All rows, played side by side, for a failing start is mostly waiting; on a cluster with a kubelet's patience."""
    folder = Path(tempfile.mkdtemp())
    with site(folder) as found:
        yield play(found, ROWS, SIDE_BY_SIDE)
    shutil.rmtree(folder)


def test_the_table_has_every_class_of_failures():
    shown = {name for row in TABLE.values() for name in row.causes}
    assert shown == (LOG_CLASSES | CLUSTER_CLASSES) - {"TERMINATED"}
    assert len(TABLE) >= 30


@pytest.mark.devcluster
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ROWS)
def test_a_start_that_fails_is_explained_and_leaves_its_evidence(outcomes, name):
    found = outcomes[name]
    assert isinstance(found.verdict, Fail)
    assert found.right, found.verdict
    assert found.kept
    assert found.seconds < MOST_SECONDS
    assert found.generations <= 1, "no recreation is allowed"
    assert "is scaled to zero" in found.verdict.cause
