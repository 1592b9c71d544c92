"""The main job as its users start it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llm_rollout.steps import PIPELINE

pytestmark = [pytest.mark.airflow, pytest.mark.devcluster, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
ENDS = ["switched", "switched", "rolled_back", "stopped"]


def test_four_rollouts_end_as_they_should_and_no_stream_is_dropped():
    done = subprocess.run(
        [sys.executable, "-m", "devcluster.demo", "run"],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": "include:plugins:."},
        capture_output=True, text=True, timeout=800, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    report = json.loads((ROOT / "var" / "demo.json").read_text())
    assert [rollout["ended"] for rollout in report["rollouts"]] == ENDS
    assert [rollout["expected"] for rollout in report["rollouts"]] == ENDS
    for rollout in report["rollouts"][:2]:
        assert {step["step"]: step["verdict"] for step in rollout["steps"]} == dict.fromkeys(PIPELINE, "done")
    assert report["streams"]["dropped"] == 0
    assert report["streams"]["total"] >= 100
    assert all(report["ttft"][when]["requests"] >= 30 for when in ("compared", "otherwise"))
    assert report["ttft"]["p99_ratio"] > 0
    third, fourth = report["rollouts"][2:]
    assert "accuracy" in third["reason"]
    assert all(node in fourth["reason"] for node in ("node-1", "node-2"))
    assert report["orchestration_seconds"] > 0
    assert "tiny-chat-" in report["serving"]
