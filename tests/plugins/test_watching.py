from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from llm_rollout import record
from llm_rollout.errors import Transient
from llm_rollout.record import Record, Revision
from llm_rollout.testing import Simulation
from rollout_airflow.watching import WatchRevision

from .conftest import COMMITS, SPEC, context

ALWAYS = {"window": {"start": "00:00", "end": "00:00", "timezone": "Etc/UTC"}}


def look(revision: str = "v2") -> dict[str, str]:
    spec: dict[str, Any] = {**SPEC, "model": {"repo": "org/chat", "revision": revision}, "upgrades": ALWAYS}
    return WatchRevision(task_id="watch__chat", spec=spec).execute(context())


@pytest.fixture
def serving_v1(world: Simulation) -> Simulation:
    current = Revision(revision_id="abcdefgh", commit=COMMITS["v1"], lws="chat-abcdefgh", manifests=())

    def served(found: Record) -> Record:
        return found.model_copy(update={"current": current})

    record.update(world.cluster, "default", "chat", served)
    return world


@pytest.mark.usefixtures("serving_v1")
def test_a_new_commit_is_handed_to_the_start_with_a_run_id_of_its_own():
    assert look() == {"commit": COMMITS["v2"], "run_id": "upgrade__222222222222"}


@pytest.mark.usefixtures("serving_v1")
def test_an_old_commit_is_skipped_with_the_reason():
    with pytest.raises(AirflowSkipException, match="which serves"):
        look("v1")


@pytest.mark.usefixtures("serving_v1")
def test_a_revision_that_is_gone_is_red():
    with pytest.raises(AirflowFailException, match="v9"):
        look("v9")


def test_a_hub_that_does_not_answer_is_asked_again(serving_v1: Simulation, monkeypatch: pytest.MonkeyPatch):
    def dead(*_: object) -> None:
        raise Transient("the hub did not answer")

    monkeypatch.setattr(serving_v1.hub, "resolve", dead)
    with pytest.raises(AirflowException, match="did not answer") as failed:
        look()
    assert not isinstance(failed.value, AirflowFailException)
