"""The command as people and other programs run it."""

from __future__ import annotations

import io
import json
import sys
from copy import deepcopy
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_rollout.cli import main
from llm_rollout.fabric import matrix_json

NODES = ("gpu-017", "gpu-412", "gpu-500")


def matrix(bad=(), transport="roce"):
    cells = [
        {
            "client": client,
            "server": server,
            "rail": rail,
            "attempts": [
                {"gbps": 141.2 if {(client, rail), (server, rail)} & set(bad) else 391.0, "error_class": None}
            ],
        }
        for client in NODES
        for server in NODES
        if client != server
        for rail in (0, 3)
    ]
    return {
        "nodes": list(NODES),
        "rails": [0, 3],
        "port_rate_gbps": 400,
        "transport": transport,
        "thresholds": {"fail_fraction": 0.90, "warn_fraction": 0.95},
        "cells": cells,
    }


@pytest.fixture
def run(capsys, monkeypatch):
    def call(file, text=""):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
        status = main(["attribute", str(file)])
        printed = capsys.readouterr()
        return status, [json.loads(line) for line in printed.out.splitlines()], printed.err

    return call


def test_one_file_one_verdict(run, tmp_path):
    file = tmp_path / "matrix.json"
    file.write_text(json.dumps(matrix([("gpu-412", 3)]), indent=2))
    status, (verdict,), _ = run(file)
    assert status == 0
    assert set(verdict) == {"verdict", "findings"}
    assert verdict["verdict"] == "FAIL"
    (finding,) = verdict["findings"]
    assert {**finding, "evidence": []} == {"kind": "nic", "node": "gpu-412", "peer": None, "rail": 3, "evidence": []}
    assert len(finding["evidence"]) == 4
    assert {"client": "gpu-017", "server": "gpu-412", "rail": 3, "gbps": 141.2, "error_class": None} in finding[
        "evidence"
    ]


def test_lines_are_answered_in_order(run):
    lines = [
        matrix(),
        matrix([("gpu-017", 0), ("gpu-017", 3)]),
        matrix(transport="simulated"),
        matrix([("gpu-500", 0)]),
    ]
    status, verdicts, _ = run("-", "\n".join(map(json.dumps, lines)) + "\n\n")
    assert status == 0
    assert [one["verdict"] for one in verdicts] == ["PASS", "FAIL", "INCONCLUSIVE", "FAIL"]
    assert [[one["kind"] for one in verdict["findings"]] for verdict in verdicts] == [[], ["node"], [], ["nic"]]


def test_error_class_of_a_path_that_carried_nothing_is_in_the_evidence(run):
    value = matrix()
    value["cells"][0]["attempts"] = [{"gbps": None, "error_class": word} for word in ("flush", "timeout", "oob")]
    _, (verdict,), _ = run("-", json.dumps(value))
    (finding,) = verdict["findings"]
    first = value["cells"][0]
    assert (finding["kind"], finding["node"], finding["peer"]) == ("direction", first["client"], first["server"])
    assert [(cell["gbps"], cell["error_class"]) for cell in finding["evidence"]] == [(0.0, "timeout")]


def test_evidence_of_everything_stays_short(run):
    bad = [(node, rail) for node in NODES for rail in (0, 3)]
    _, (verdict,), _ = run("-", json.dumps(matrix(bad)))
    assert [(one["kind"], one["node"], one["rail"]) for one in verdict["findings"]] == [("global", None, None)]
    assert 1 <= len(verdict["findings"][0]["evidence"]) <= 32


WRONG = [
    (("nodes",), ["a"], "nodes"),
    (("nodes",), ["gpu-017", "gpu-017"], "nodes"),
    (("nodes", 1), 5, "nodes[1]"),
    (("rails",), [], "rails"),
    (("rails", 0), "0", "rails[0]"),
    (("rails",), [0, 3, 3], "rails"),
    (("port_rate_gbps",), 0, "port_rate_gbps"),
    (("port_rate_gbps",), True, "port_rate_gbps"),
    (("port_rate_gbps",), float("nan"), "port_rate_gbps"),
    (("port_rate_gbps",), 10**400, "port_rate_gbps"),
    (("transport",), 7, "transport"),
    (("thresholds",), None, "thresholds"),
    (("thresholds", "fail_fraction"), 0.99, "thresholds.warn_fraction"),
    (("cells",), {}, "cells"),
    (("cells", 2, "client"), "gpu-9", "cells[2].client"),
    (("cells", 2, "server"), "gpu-9", "cells[2].server"),
    (("cells", 2, "rail"), 9, "cells[2].rail"),
    (("cells", 2, "rail"), False, "cells[2].rail"),
    (("cells", 0, "attempts"), None, "cells[0].attempts"),
    (("cells", 0, "attempts", 0), 391, "cells[0].attempts[0]"),
    (("cells", 0, "attempts", 0, "gbps"), "391", "cells[0].attempts[0].gbps"),
    (("cells", 0, "attempts", 0, "gbps"), -1, "cells[0].attempts[0].gbps"),
    (("cells", 0, "attempts", 0, "error_class"), "tiemout", "cells[0].attempts[0].error_class"),
]


@pytest.mark.parametrize(("path", "value", "field"), WRONG, ids=[f"{row[2]}-{row[1]}" for row in WRONG])
def test_what_is_no_matrix_is_refused_with_line_and_field(run, path, value, field):
    broken = deepcopy(matrix())
    target = broken
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    status, verdicts, said = run("-", f"{json.dumps(matrix())}\n{json.dumps(broken)}\n{json.dumps(matrix())}\n")
    assert status == 2
    assert len(verdicts) == 1
    assert f"line 2: {field} is " in said


@pytest.mark.parametrize("name", ["nodes", "rails", "port_rate_gbps", "transport", "thresholds", "cells"])
def test_missing_field_is_named(run, name):
    broken = {key: value for key, value in matrix().items() if key != name}
    status, _, said = run("-", json.dumps(broken))
    assert (status, f"line 1: {name} is missing" in said) == (2, True)


def test_cell_given_twice_or_to_itself_is_refused(run):
    twice, itself = matrix(), matrix()
    twice["cells"].append(dict(twice["cells"][1]))
    itself["cells"][0]["server"] = itself["cells"][0]["client"]
    assert "cells[12] is" in run("-", json.dumps(twice))[2]
    assert "cells[0].server is" in run("-", json.dumps(itself))[2]


@pytest.mark.parametrize("text", ["[]", "{", "7", "\x00", '{"nodes": [}', "[" * 100_000, "\ufeff{}"])
def test_no_json_is_refused_with_its_line(run, tmp_path, text):
    status, _, said = run("-", text)
    assert (status, "line 1: " in said) == (2, True)
    (tmp_path / "file.json").write_text(text)
    status, _, said = run(tmp_path / "file.json")
    assert (status, "line 1: " in said) == (2, True)


def test_file_of_several_matrices_counts_its_lines(run, tmp_path):
    file = tmp_path / "many.json"
    whole = json.dumps(matrix(), indent=1)
    file.write_text(f"\n{whole}\n\n{whole}\n{{}}")
    status, verdicts, said = run(file)
    assert (status, len(verdicts)) == (2, 2)
    assert f"line {2 * whole.count(chr(10)) + 5}: nodes is missing" in said


@pytest.mark.parametrize(("content", "said"), [(None, "No such file"), (b"\xff\xfe", "UTF-8"), (b" \n", "empty")])
def test_file_that_cannot_be_read_is_named(run, tmp_path, content, said):
    file = tmp_path / "matrix.json"
    if content is not None:
        file.write_bytes(content)
    status, verdicts, told = run(file)
    assert (status, verdicts) == (2, [])
    assert str(file) in told
    assert said in told


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 500) | st.floats(0, 500) | st.sampled_from(["a", "b", "roce", "nodes"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["nodes", "rails", "cells", "client", "attempts", "gbps"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON, st.sampled_from(["nodes", "rails", "port_rate_gbps", "transport", "thresholds", "cells"]))
def test_any_json_in_any_field_is_read_or_refused(value, name):
    refused = None
    try:
        matrix_json.read({**matrix(), name: value})
    except matrix_json.NotAMatrixError as error:
        refused = str(error)
    assert refused is None or refused.startswith((name, "cells["))
