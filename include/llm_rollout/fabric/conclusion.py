"""From rows and inventories to the verdict and the one sentence that a person reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from llm_rollout.fabric.attribution import Blame, attribute
from llm_rollout.fabric.inventory import Finding, Transport
from llm_rollout.fabric.rows import Row

Verdict = Literal["PASS", "DEGRADED", "FAIL", "INCONCLUSIVE"]

_OPENING: dict[Transport, str] = {"rdma": "", "simulated": "SIMULATED FABRIC: ", "tcp": "TCP, NOT RDMA: "}


@dataclass(frozen=True)
class Conclusion:
    """The answer of one probe."""

    verdict: Verdict
    transport: Transport
    sentence: str
    rows: tuple[Row, ...]
    bad: tuple[Blame, ...]

    def as_report(self) -> dict[str, Any]:
        """The report line of ``llm-rollout probe``."""
        rows = [row.as_json() for row in self.rows]
        return {"event": "report", **asdict(self), "rows": rows, "bad": [asdict(blame) for blame in self.bad]}


def conclude(
    rows: Sequence[Row], findings: Sequence[Finding], transport: Transport, missing: Sequence[str] = ()
) -> Conclusion:
    """The verdict.

    Anything measured bad is FAIL. Otherwise anything that could not be measured is INCONCLUSIVE (``missing`` says
    who did not take part), anything below the warning limit DEGRADED, and only a whole matrix of good rows PASS.
    A row whose tool says that it is simulated makes the whole transport simulated.
    """
    used: Transport = "simulated" if any(row.simulated for row in rows) else transport
    verdict, blamed = _verdict(rows, findings, missing)
    said = _said(verdict, blamed, rows, missing)
    return Conclusion(verdict, used, f"{_OPENING[used]}{verdict}: {said}", tuple(rows), tuple(blamed))


def _said(verdict: Verdict, blamed: Sequence[Blame], rows: Sequence[Row], missing: Sequence[str]) -> str:
    if verdict == "PASS":
        return _healthy(rows)
    if verdict == "INCONCLUSIVE":
        return _unknown(rows, missing)
    said = "; ".join(f"{blame.kind} {blame.name} {blame.detail}" for blame in blamed)
    unmeasured = _unmeasured(rows, missing)
    return f"{said}; not measured: {unmeasured}" if unmeasured else said


def _verdict(rows: Sequence[Row], findings: Sequence[Finding], missing: Sequence[str]) -> tuple[Verdict, list[Blame]]:
    if bad := _blamed(rows, findings, "bad"):
        return "FAIL", bad
    if missing or not rows or any(row.status == "could_not_run" for row in rows):
        return "INCONCLUSIVE", []
    warned = _blamed(rows, findings, "warn")
    return ("DEGRADED" if warned else "PASS"), warned


def _blamed(rows: Sequence[Row], findings: Sequence[Finding], severity: Literal["bad", "warn"]) -> list[Blame]:
    seen = [Blame(found.kind, found.name, found.detail) for found in findings if found.severity == severity]
    return seen + attribute(rows, severity)


def _healthy(rows: Sequence[Row]) -> str:
    slowest = min(rows, key=lambda row: row.gbps or 0.0)
    highest = max(row.p99_usec or 0.0 for row in rows)
    pairs, hcas = len({row.pair for row in rows}), ", ".join(dict.fromkeys(row.hca for row in rows))
    return (
        f"{pairs} pair{'s' * (pairs > 1)} on {hcas}: slowest {slowest.client} -> {slowest.server} {slowest.gbps} Gb/s"
        f" of {slowest.rate_gbps:.4g} Gb/s, p99 latency at most {highest} usec"
    )


def _unknown(rows: Sequence[Row], missing: Sequence[str]) -> str:
    measured = sum(row.status != "could_not_run" for row in rows)
    unmeasured = _unmeasured(rows, missing) or "nothing was measured"
    return f"{unmeasured}; {measured} of {len(rows)} rows measured, none of them bad"


def _unmeasured(rows: Sequence[Row], missing: Sequence[str]) -> str:
    if missing:
        return "; ".join(missing)
    failed = [row for row in rows if row.status == "could_not_run"]
    shown = [f"{row.client} -> {row.server} {row.hca}: {row.detail}" for row in failed[:3]]
    more = [f"and {len(failed) - 3} more"] if len(failed) > 3 else []  # noqa: PLR2004 - three are enough to see a pattern
    return "; ".join(shown + more)
