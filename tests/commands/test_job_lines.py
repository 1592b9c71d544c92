"""How a Job's command ends when it is asked to."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llm_rollout.commands import job_lines

BEGIN = """
import threading
from llm_rollout.commands import job_lines
ending = job_lines.Ending()
try:
    print("began", flush=True)
"""
GRANTING = """
    while True:
        ending.grant()
"""
DEAF = """
    threading.Event().wait(60)
"""
END = """
finally:
    print("let go")
"""


@pytest.mark.parametrize(("work", "printed"), [(GRANTING, "let go\n"), (DEAF, "")], ids=["granted", "in no time"])
def test_who_is_asked_to_end_does_so_where_it_may_and_else_by_force(work, printed):
    environment = {"PYTHONPATH": str(Path(job_lines.__file__).parents[2])}
    command = [sys.executable, "-c", BEGIN + work + END]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "began\n"
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (143, printed)
