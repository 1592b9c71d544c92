"""Where the page stands in Airflow, and the application that is built by its first request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote, urlsplit

from airflow.configuration import conf

PREFIX = "/rollouts"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class RolloutsPage:
    """An ASGI application that imports what it needs when it is first asked.

    Every component of Airflow loads plugins, and only the API server needs FastAPI and what checks sessions: the
    others save 0.8 s and the memory.
    """

    _application: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._application is None:
            from rollout_airflow.page.serving import application  # noqa: PLC0415 - see the class

            self._application = application()
        await self._application(scope, receive, send)


def airflow_root() -> str:
    """The path under which Airflow is served, without the last slash: "" or ``/airflow``."""
    return urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")


def address() -> str:
    """The page's path on Airflow's host."""
    return f"{airflow_root()}{PREFIX}/"


def login_address() -> str:
    """Where Airflow asks who somebody is and then leads back to the page."""
    return f"{airflow_root()}/api/v2/auth/login?next={quote(address(), safe='')}"


def dag_address(dag_id: str) -> str:
    """A DAG in Airflow's own pages."""
    return f"{airflow_root()}/dags/{quote(dag_id, safe='')}"


def run_address(dag_id: str, run_id: str) -> str:
    """A DAG run in Airflow's own pages."""
    return f"{dag_address(dag_id)}/runs/{quote(run_id, safe='')}"


def task_address(dag_id: str, run_id: str, task_id: str) -> str:
    """A task of a DAG run in Airflow's own pages."""
    return f"{run_address(dag_id, run_id)}/tasks/{quote(task_id, safe='')}"
