"""The FastAPI application under ``/rollouts``: the page and the same as JSON, for whoever Airflow knows."""

from __future__ import annotations

import time
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import Depends, FastAPI, HTTPException, Request, Response, status
from fastapi.exception_handlers import http_exception_handler
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse

from llm_rollout.spec import RolloutSpec
from rollout_airflow import specs
from rollout_airflow.page import rendering
from rollout_airflow.page.mounting import login_address
from rollout_airflow.page.reading import Reader

_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
_NO_SESSION = (status.HTTP_401_UNAUTHORIZED, status.HTTP_403_FORBIDDEN)


def readable(user: GetUserDep) -> list[RolloutSpec]:
    """The models whose DAG ``roll_out__<name>`` this user may read, as Airflow's own list of DAGs decides it."""
    allowed = get_auth_manager().get_authorized_dag_ids(user=user, method="GET")
    return [
        spec for spec in _specs(specs.folder(), _stamp(specs.folder())) if specs.dag_id("roll_out", spec) in allowed
    ]


@lru_cache(maxsize=1)
def _specs(folder: Path, stamp: object) -> tuple[RolloutSpec, ...]:
    """The specs; open pages ask every few seconds, and a thousand files take seconds to read."""
    del folder, stamp  # They only say whether an earlier answer still holds.
    return tuple(specs.load()[0])


def _stamp(folder: Path) -> object:
    """Another value when a file of the folder is another."""
    seen = [(path.name, path.stat()) for path in sorted(folder.glob("*.y*ml")) if path.exists()]
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in seen)


Readable = Annotated[list[RolloutSpec], Depends(readable)]


def application() -> FastAPI:
    """A new application; it says nothing, not even its own description, to who has no session."""
    app = FastAPI(title="Rollouts", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(HTTPException, _ask_for_login)
    reader = Reader()

    @app.get("/")
    async def page(models: Readable) -> HTMLResponse:
        html = rendering.page(await reader.read(models), time.time())
        return HTMLResponse(html, headers=_HEADERS | {"Content-Security-Policy": rendering.CONTENT_SECURITY_POLICY})

    @app.get("/api/models")
    async def models(models: Readable) -> JSONResponse:
        reading = await reader.read(models)
        code = status.HTTP_503_SERVICE_UNAVAILABLE if reading.problem else status.HTTP_200_OK
        return JSONResponse(asdict(reading), code, _HEADERS)

    return app


async def _ask_for_login(request: Request, error: Exception) -> Response:
    """A browser that has no session is led to Airflow's login; a program gets the status."""
    if not isinstance(error, HTTPException):
        raise error
    wants_page = "text/html" in request.headers.get("accept", "")
    if error.status_code in _NO_SESSION and wants_page:
        return RedirectResponse(login_address(), status.HTTP_307_TEMPORARY_REDIRECT, _HEADERS)
    return await http_exception_handler(request, error)
