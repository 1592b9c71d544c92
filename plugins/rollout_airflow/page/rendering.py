"""From views to HTML. Everything is escaped, and the page may load nothing and run nothing but its own script."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from rollout_airflow.page import timeline
from rollout_airflow.page.reading import Reading
from rollout_airflow.page.views import SHOWN_ROLLOUTS

_HERE = Path(__file__).parent
_STYLE = (_HERE / "page.css").read_text(encoding="utf-8")
_SCRIPT = (_HERE / "page.js").read_text(encoding="utf-8")
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


CONTENT_SECURITY_POLICY = "; ".join((
    "default-src 'none'",
    f"style-src {_source(_STYLE)}",
    f"script-src {_source(_SCRIPT)}",
    "connect-src 'self'",  # The script fetches the page again.
    "frame-ancestors 'self'",  # Airflow shows it in a frame; nobody else may.
    "base-uri 'none'",
    "form-action 'none'",
))  # fmt: skip


def page(reading: Reading, now: float) -> str:
    """The whole page; ``now`` in seconds since the epoch."""
    drawn = [(model, list(zip(model.rollouts, timeline.pictures(model.rollouts), strict=True)))
             for model in reading.models]  # fmt: skip
    return _ENVIRONMENT.get_template("page.html").render(
        drawn=drawn, problem=reading.problem, now=now, shown=SHOWN_ROLLOUTS, bar=timeline.BAR, width=timeline.WIDTH,
    )  # fmt: skip


def duration(seconds: float) -> str:
    """``0.4 s``, ``38 s``, ``4 min 10 s``, ``1 h 02 min``, ``2 d 03 h``."""
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s" if seconds >= 1 or seconds == 0 else f"{seconds:.1f} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR:02} h"


def moment(seconds: float) -> str:
    """A moment in seconds since the epoch as ``2026-11-23 14:05:00 UTC``."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_ENVIRONMENT.filters |= {"duration": duration, "moment": moment}
# Both are files of this package and hold no data; the policy names them by their digest.
_ENVIRONMENT.globals |= {"style": Markup(_STYLE), "script": Markup(_SCRIPT)}  # noqa: S704
