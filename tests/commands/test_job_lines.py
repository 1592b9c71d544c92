"""How a Job's command ends when it is asked to."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from devcluster.controlplane import python_path
from llm_rollout.commands import job_lines

WORK = """
import threading
from llm_rollout.commands import job_lines
with job_lines.Ending() as ending:
    try:
        print("began", flush=True)
        while True:
            {work}
    finally:
        print("let go")
"""


@pytest.mark.parametrize(("work", "printed"), [("ending.grant()", "let go\n"), ("threading.Event().wait(60)", "")])
def test_who_is_asked_to_end_does_so_where_it_may_and_else_by_force(work, printed):
    environment = {"PYTHONPATH": python_path()}
    command = [sys.executable, "-c", WORK.format(work=work)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "began\n"
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (143, printed)


def test_work_that_has_ended_leaves_the_signal_as_it_was():
    before = signal.getsignal(signal.SIGTERM)
    with job_lines.Ending():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
