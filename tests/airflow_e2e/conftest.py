"""A devcluster and an Airflow of four components, each of which a test may kill."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster.airflow import AirflowProcesses, Client
from devcluster.demo.stack import Stack

APPROVAL = {"assigned_users": ["admin"], "response_timeout_seconds": 600}


@pytest.fixture(scope="session")
def started() -> Iterator[tuple[Stack, AirflowProcesses]]:
    home = Path(tempfile.mkdtemp(prefix="llmr-"))  # Unix sockets have short names, so the folder has one too.
    stack = Stack(home)
    try:
        yield stack, stack.start(tied=True, standalone=False, changes={"approval": APPROVAL})
    finally:
        stack.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def stack(started: tuple[Stack, AirflowProcesses]) -> Stack:
    return started[0]


@pytest.fixture(scope="session")
def airflow(started: tuple[Stack, AirflowProcesses]) -> AirflowProcesses:
    return started[1]


@pytest.fixture
def client(airflow: AirflowProcesses) -> Iterator[Client]:
    with airflow.client() as found:
        yield found
