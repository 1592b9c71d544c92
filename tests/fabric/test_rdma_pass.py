"""Nothing but RDMA becomes an RDMA PASS: every path on which a verdict is made, and that there is no other.

The paths: a matrix (``judge``), the rows of a probe (``inventory.transport``, then ``conclude``), and the report in the
rollout's gate (``fabric_report.judge``). A PASS of the probe always stands beside what carried it.
"""

import ast
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_rollout.fabric import inventory
from llm_rollout.fabric.conclusion import conclude
from llm_rollout.fabric.inventory import Member
from llm_rollout.fabric.judgement import judge
from llm_rollout.fabric.matrix import RDMA_TRANSPORTS
from llm_rollout.fabric.reading.outcome import TRANSPORTS
from llm_rollout.fabric.rows import Limits, Measured, Row, graded
from llm_rollout.spec import RolloutSpec
from llm_rollout.steps import fabric_report
from llm_rollout.verdict import Done, Fail
from tests.fabric.matrices import matrix

INCLUDE = Path(__file__).parents[2] / "include" / "llm_rollout"
LIMITS = Limits(min_fraction=0.90, warn_fraction=0.95, max_latency_usec=10.0)
OPENINGS = {"rdma": "PASS", "simulated": "SIMULATED FABRIC: PASS", "tcp": "TCP, NOT RDMA: PASS"}
DEVICES = [
    ("InfiniBand (0)", "rdma"),
    ("SIMULATED InfiniBand (0)", "simulated"),
    ("iWARP (1)", "tcp"),
    ("usNIC UDP (3)", "tcp"),
    ("unspecified (4)", "tcp"),
    ("", "tcp"),
]


def _spec(*accepted):
    fabric = {"accept_transports": list(accepted)} if accepted else {}
    return RolloutSpec.model_validate(
        {
            "name": "chat",
            "model": {"repo": "acme/chat"},
            "server": {"nodes_per_group": 3, "tensor_parallel": 8, "pipeline_parallel": 3},
            "service": {"name": "chat-api"},
            "fabric": {"accept_degraded": True, **fabric},
        }
    )


def _members(*transports):
    """Nodes whose only device is of these transports, as ibv_devinfo prints them."""
    text = "hca_id:\tmlx5_0\n\ttransport:\t\t\t{}\n\t\tport:\t1\n\t\t\tstate:\t\t\tPORT_ACTIVE (4)\n"
    return [Member(f"node-{index}", inventory.parse(text.format(one))) for index, one in enumerate(transports)]


def _rows(*, simulated=()):
    ways = [(server, client) for server in "ABC" for client in "ABC" if server != client]
    rows = []
    for index, (server, client) in enumerate(ways):
        blank = Row(1, server, client, "mlx5_0", None, 400.0, None, "could_not_run")
        is_simulated = index in simulated
        rows.append(graded(blank, Measured(391.0, is_simulated), Measured(2.0, is_simulated), LIMITS))
    return rows


@pytest.mark.parametrize("transport", [*TRANSPORTS, "simulated", "tcp", "unknown", "rdma", "RoCE", "", None])
def test_healthy_matrix_passes_over_ib_and_roce_only(transport):
    verdict = judge(matrix(3, 8, transport=transport)).verdict
    assert verdict == ("PASS" if transport in {"ib", "roce"} else "INCONCLUSIVE")


@given(st.text(max_size=8) | st.none())
def test_no_word_at_all_but_ib_and_roce_passes(transport):
    assert (judge(matrix(2, 1, transport=transport)).verdict == "PASS") == (transport in {"ib", "roce"})


def test_words_that_pass_are_words_of_the_readers():
    assert set(TRANSPORTS) >= RDMA_TRANSPORTS == {"ib", "roce"}


@pytest.mark.parametrize(("said", "transport"), DEVICES)
def test_one_device_of_another_kind_is_the_whole_transport(said, transport):
    assert inventory.transport(_members("InfiniBand (0)", said), ("mlx5_0",)) == transport


@pytest.mark.parametrize("transport", get_args(inventory.Transport))
def test_pass_of_a_probe_says_first_what_carried_it(transport):
    found = conclude(_rows(), [], transport)
    assert found.transport == transport
    assert found.sentence.startswith(OPENINGS[transport])


@given(st.sets(st.integers(0, 5), min_size=1), st.sampled_from(get_args(inventory.Transport)))
def test_one_simulated_row_is_enough(simulated, transport):
    found = conclude(_rows(simulated=simulated), [], transport)
    assert found.transport == "simulated"
    assert found.sentence.startswith(OPENINGS["simulated"])


def test_failed_or_unmeasured_rows_never_pass():
    rows = _rows()
    assert conclude(rows, [], "rdma").verdict == "PASS"
    for status in ("could_not_run", "bad", "warn"):
        assert conclude([replace(rows[0], status=status), *rows[1:]], [], "rdma").verdict != "PASS"


@pytest.mark.parametrize("transport", [*TRANSPORTS, "simulated", "tcp", "unknown"])
@pytest.mark.parametrize("verdict", ["PASS", "DEGRADED", "FAIL", "INCONCLUSIVE"])
def test_gate_lets_through_what_the_spec_names_and_nothing_else(transport, verdict):
    report = {"verdict": verdict, "transport": transport, "sentence": verdict, "rows": [], "bad": []}
    good = verdict in {"PASS", "DEGRADED"}
    assert isinstance(fabric_report.judge(_spec(), report), Done if good and transport == "rdma" else Fail)
    accepted = {"rdma", "simulated"}
    assert isinstance(fabric_report.judge(_spec(*accepted), report), Done if good and transport in accepted else Fail)


MAKERS = {"fabric/judgement.py", "fabric/conclusion.py"}
"""Where the tests above see a PASS being made."""


def test_no_other_module_makes_a_pass():
    makers = {
        str(path.relative_to(INCLUDE)) for path in INCLUDE.rglob("*.py") if _makes_pass(ast.parse(path.read_text()))
    }
    assert makers - {"testing/simulation.py"} == MAKERS


def _makes_pass(tree):
    """Whether "PASS" is a value here: comparisons and types only read it."""
    reading = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare | ast.Subscript)
        for inner in ast.walk(node)
    }
    values = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in reading]
    return any(node.value == "PASS" for node in values)
