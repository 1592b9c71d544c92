"""Talk to a running Airflow as a person with a browser does: over its REST API."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import httpx

T = TypeVar("T")
POLL_SECONDS = 0.5
ANSWER_AFTER_SECONDS = 3.0
"""Airflow 3.3 fails a task that is answered while its worker still reports that it waits."""
ENDED = ("success", "failed")
COMPONENTS = ("metadatabase", "scheduler", "triggerer", "dag_processor")


@dataclass(frozen=True)
class Login:
    """Where Airflow is and who may enter."""

    url: str
    user: str
    password: str


class Client:
    """A session at Airflow's API. All waits are in seconds and end with TimeoutError."""

    def __init__(self, login: Login) -> None:
        self._login = login
        self._http = httpx.Client(base_url=login.url, timeout=30.0, transport=httpx.HTTPTransport(retries=2))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the session."""
        self._http.close()

    def health(self) -> dict[str, str]:
        """Component to ``healthy``, ``unhealthy`` or ``unreachable``."""
        try:
            seen = self._http.get("/api/v2/monitor/health").raise_for_status().json()
        except httpx.HTTPError:
            return dict.fromkeys(COMPONENTS, "unreachable")
        return {name: seen.get(name, {}).get("status") or "not started" for name in COMPONENTS}

    def dag_ids(self) -> list[str]:
        """The DAGs that Airflow knows."""
        return sorted(dag["dag_id"] for dag in self._ask("GET", "/dags", params={"limit": 100})["dags"])

    def wait_dags(self, ids: Collection[str], timeout: float = 60.0) -> None:
        """Return when all these DAGs are there."""
        missing = set(ids)

        def all_there() -> bool:
            missing.difference_update(self.dag_ids())
            return not missing

        _until(all_there, timeout, lambda: f"no DAG {sorted(missing)}; import errors: {self.import_errors()}")

    def trigger(self, dag_id: str, conf: dict[str, Any], run_id: str | None = None) -> str:
        """Start a run and return its id."""
        body = {"logical_date": None, "conf": conf} | ({"dag_run_id": run_id} if run_id else {})
        return str(self._ask("POST", f"/dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """One run, with ``state``, ``start_date`` and ``end_date``."""
        return dict(self._ask("GET", f"/dags/{dag_id}/dagRuns/{run_id}"))

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """All runs of a DAG."""
        return list(self._ask("GET", f"/dags/{dag_id}/dagRuns", params={"limit": 100})["dag_runs"])

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The tasks of a run with ``task_id``, ``state``, ``start_date``, ``end_date`` and ``try_number``."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        return list(self._ask("GET", path, params={"limit": 100})["task_instances"])

    def wait_run(
        self, dag_id: str, run_id: str, timeout: float, on_change: Callable[[str, str], None] | None = None
    ) -> dict[str, Any]:
        """Return the run when it has ended; ``on_change`` hears task and new state."""
        shown: dict[str, str] = {}

        def ended() -> dict[str, Any] | None:
            found = self.run(dag_id, run_id)
            self._say_changes(shown, self.tasks(dag_id, run_id), on_change)
            return found if found["state"] in ENDED else None

        return _until(ended, timeout, lambda: f"{dag_id} {run_id} has not ended: {shown}")

    def wait_task(self, dag_id: str, run_id: str, task_id: str, states: Collection[str], timeout: float) -> str:
        """Return the state of a task as soon as it is one of ``states``."""
        shown: dict[str, str] = {}

        def reached() -> str | None:
            self._say_changes(shown, self.tasks(dag_id, run_id), None)
            return shown[task_id] if shown.get(task_id) in states else None

        return _until(reached, timeout, lambda: f"{task_id} is not {' or '.join(states)}: {shown}")

    def clear(
        self, dag_id: str, run_id: str, task_ids: Collection[str] | None = None, *, only_failed: bool = False
    ) -> list[str]:
        """Run tasks and what follows them again; all of the run when none are named. Returns what was cleared."""
        body: dict[str, Any] = {"dry_run": False, "dag_run_id": run_id, "only_failed": only_failed}
        body |= {"include_downstream": True, "reset_dag_runs": True}
        body |= {"task_ids": list(task_ids)} if task_ids is not None else {}
        cleared = self._ask("POST", f"/dags/{dag_id}/clearTaskInstances", json=body)["task_instances"]
        return [task["task_id"] for task in cleared]

    def mark(self, dag_id: str, run_id: str, state: str) -> None:
        """End a run by hand as ``success`` or ``failed``."""
        self._ask("PATCH", f"/dags/{dag_id}/dagRuns/{run_id}", json={"state": state})

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1) -> str:
        """What a task logged in one try, one line an event."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        content = self._ask("GET", path, params={"full_content": True}, headers={"Accept": "application/json"})
        return "\n".join(_line(event) for event in content["content"])

    def import_errors(self) -> list[str]:
        """The texts that the web page shows as import errors."""
        errors = self._ask("GET", "/importErrors", params={"limit": 100})["import_errors"]
        return [error["stack_trace"] for error in errors]

    def answer(self, dag_id: str, run_id: str, task_id: str, option: str, timeout: float = 60.0) -> None:
        """Answer a task that asks a person, as soon as it asks."""
        self.wait_task(dag_id, run_id, task_id, ("awaiting_input",), timeout)
        time.sleep(ANSWER_AFTER_SECONDS)
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/-1/hitlDetails"
        self._ask("PATCH", path, json={"chosen_options": [option], "params_input": {}})

    def _ask(self, method: str, path: str, **arguments: Any) -> Any:
        reply = self._http.request(method, f"/api/v2{path}", **self._with_token(arguments))
        if reply.status_code == httpx.codes.UNAUTHORIZED:
            self._http.headers.pop("Authorization", None)
            reply = self._http.request(method, f"/api/v2{path}", **self._with_token(arguments))
        if reply.is_error:
            raise httpx.HTTPStatusError(f"{method} {path}: {reply.status_code} {reply.text[:2000]}",
                                        request=reply.request, response=reply)  # fmt: skip
        return reply.json()

    def _with_token(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if "Authorization" not in self._http.headers:
            body = {"username": self._login.user, "password": self._login.password}
            token = self._http.post("/auth/token", json=body).raise_for_status().json()["access_token"]
            self._http.headers["Authorization"] = f"Bearer {token}"
        return arguments

    @staticmethod
    def _say_changes(
        shown: dict[str, str], tasks: list[dict[str, Any]], on_change: Callable[[str, str], None] | None
    ) -> None:
        for task in tasks:
            state = task["state"] or "none"
            if on_change and shown.get(task["task_id"], "none") != state:
                on_change(task["task_id"], state)
            shown[task["task_id"]] = state


def _until(look: Callable[[], T | None], timeout: float, missing: Callable[[], str]) -> T:
    """What ``look`` finds as soon as it finds something. An Airflow that is too busy to answer is asked again."""
    deadline = time.monotonic() + timeout
    while True:
        with contextlib.suppress(httpx.TimeoutException):
            if found := look():
                return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {timeout:.0f} s {missing()}")
        time.sleep(POLL_SECONDS)


def _line(event: Any) -> str:
    if not isinstance(event, dict):
        return str(event)
    details = event.get("error_detail")
    return str(event.get("event", "")) + (f"\n{json.dumps(details)}" if details else "")
