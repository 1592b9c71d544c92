"""From rows and inventories to the verdict and the one sentence that a person reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from llm_rollout.fabric.attribution import Attribution, Blame
from llm_rollout.fabric.inventory import Finding, Transport
from llm_rollout.fabric.judgement import Verdict
from llm_rollout.fabric.rows import Row

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

    A part measured bad is FAIL. Otherwise what is bad without being anyone's, and anything that could not be measured,
    is INCONCLUSIVE (``missing`` says who did not take part), anything below the warning limit DEGRADED, and only a
    whole matrix of good rows PASS. A row whose tool says that it is simulated makes the whole transport simulated.
    """
    used: Transport = "simulated" if any(row.simulated for row in rows) else transport
    found = Attribution(tuple(rows))
    verdict, blamed = _verdict(found, findings, missing)
    said = _said(verdict, blamed, found, missing)
    return Conclusion(verdict, used, f"{_OPENING[used]}{verdict}: {said}", tuple(rows), tuple(blamed))


def _said(verdict: Verdict, blamed: Sequence[Blame], found: Attribution, missing: Sequence[str]) -> str:
    if verdict == "PASS":
        return _healthy(found.rows)
    if verdict == "INCONCLUSIVE":
        return _unknown(found, missing)
    said = [f"{blame.kind} {blame.name} {blame.detail}" for blame in blamed]
    unmeasured = _unmeasured(found.rows, missing)
    return "; ".join([*said, *found.undecided(), *([f"not measured: {unmeasured}"] if unmeasured else [])])


def _verdict(found: Attribution, findings: Sequence[Finding], missing: Sequence[str]) -> tuple[Verdict, list[Blame]]:
    if bad := _blamed(findings, "bad") + found.blames("FAIL"):
        return "FAIL", bad
    if missing or not found.rows or any(row.status == "could_not_run" for row in found.rows):
        return "INCONCLUSIVE", []
    if found.judgement.verdict == "INCONCLUSIVE":
        return "INCONCLUSIVE", []
    warned = _blamed(findings, "warn") + found.blames("DEGRADED")
    return ("DEGRADED" if warned else "PASS"), warned


def _blamed(findings: Sequence[Finding], severity: Literal["bad", "warn"]) -> list[Blame]:
    return [Blame(found.kind, found.name, found.detail) for found in findings if found.severity == severity]


def _healthy(rows: Sequence[Row]) -> str:
    slowest = min(rows, key=lambda row: row.gbps or 0.0)
    highest = max(row.p99_usec or 0.0 for row in rows)
    pairs, hcas = len({row.pair for row in rows}), ", ".join(dict.fromkeys(row.hca for row in rows))
    return (
        f"{pairs} pair{'s' * (pairs > 1)} on {hcas}: slowest {slowest.client} -> {slowest.server} {slowest.gbps} Gb/s"
        f" of {slowest.rate_gbps:.4g} Gb/s, p99 latency at most {highest} usec"
    )


def _unknown(found: Attribution, missing: Sequence[str]) -> str:
    rows, undecided = found.rows, found.undecided()
    measured = sum(row.status != "could_not_run" for row in rows)
    reasons = [*undecided, *filter(None, [_unmeasured(rows, missing)])] or ["nothing was measured"]
    bad = "" if undecided else ", none of them bad"
    return f"{'; '.join(reasons)}; {measured} of {len(rows)} rows measured{bad}"


def _unmeasured(rows: Sequence[Row], missing: Sequence[str]) -> str:
    if missing:
        return "; ".join(missing)
    failed = [row for row in rows if row.status == "could_not_run"]
    shown = [f"{row.client} -> {row.server} {row.hca}: {row.detail}" for row in failed[:3]]
    more = [f"and {len(failed) - 3} more"] if len(failed) > 3 else []  # noqa: PLR2004 - three are enough to see a pattern
    return "; ".join(shown + more)
