"""Compare a candidate with stable on the same prompts: promote, roll back, or not enough evidence.

Without --stable, a first deployment is held against the limits min_accuracy and max_error_rate instead. Prints JSON
lines, the report last. Exit code 0 whatever was decided.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_rollout.commands import job_lines
from llm_rollout.commands.job_lines import tell
from llm_rollout.errors import Permanent, Transient

if TYPE_CHECKING:
    from llm_rollout.adapters.pairs import Pairs, Setting
    from llm_rollout.canary.judge import Decision, Standing
    from llm_rollout.canary.rotation import Reply
    from llm_rollout.canary.task_set import Task
    from llm_rollout.spec import Canary

SUMMARY = "compare a candidate with the stable revision on the same prompts"

_EXIT_TERMINATED = 128 + signal.SIGTERM

_ASKING_SHARE = 0.9
"""Of deadline_seconds: the rest is for the start of the pod, and for the report to be out before the Job is killed."""
_FAILURES_NAMED = 5


def arguments(parser: argparse.ArgumentParser) -> None:
    """Define the flags."""
    parser.add_argument("--candidate", required=True, metavar="URL", help="root address of the candidate's server")
    parser.add_argument("--stable", metavar="URL", help="of the stable revision's server; none: first deployment")
    parser.add_argument("--model", required=True, metavar="NAME", help="the served name of the model on both")
    parser.add_argument("--config", default="{}", metavar="JSON|@FILE", help="the canary part of a spec (defaults)")
    parser.add_argument("--seed", type=int, help="of the order of tasks (default: from the addresses)")


def run(options: argparse.Namespace) -> int:
    """Print progress lines and the report, or an error line."""
    with _ended_by_sigterm():
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    try:
        config = _config(options.config)
    except ValueError as error:
        return _error("Usage", f"--config: {error}", "give the canary part of the spec as JSON", job_lines.EXIT_USAGE)
    try:
        _evaluate(options, config)
    except Permanent as error:
        return _error("Permanent", str(error), "put that right, then run it again", job_lines.EXIT_PERMANENT)
    except Transient as error:
        return _error("Transient", str(error), "see that the servers run, then run it again", job_lines.EXIT_TRANSIENT)
    return 0


def _evaluate(options: argparse.Namespace, config: Canary) -> None:
    from llm_rollout.adapters.pairs import Pairs, Setting  # noqa: PLC0415 - loaded only by this command
    from llm_rollout.canary import task_set  # noqa: PLC0415 - as above

    tasks = task_set.parse(*_task_text(config.tasks))
    setting = Setting(
        model=options.model,
        max_tokens=config.max_tokens,
        concurrency=config.concurrency,
        deadline_seconds=time.monotonic() + _ASKING_SHARE * config.deadline_seconds,
        seed=_seed(options),
    )
    with Pairs(options.candidate, options.stable, setting) as pairs:
        pairs.check()
        if options.stable:
            _compare(pairs, tasks, config, setting)
        else:
            _first_deployment(pairs, tasks, config)


def _compare(pairs: Pairs, tasks: Sequence[Task], config: Canary, setting: Setting) -> None:
    from llm_rollout.canary.comparison import compare  # noqa: PLC0415 - as above
    from llm_rollout.canary.rotation import Rotation  # noqa: PLC0415
    from llm_rollout.canary.rules import Rules  # noqa: PLC0415

    rules = Rules(
        alpha=config.alpha,
        beta=config.beta,
        round_pairs=config.round_pairs,
        max_pairs=config.max_pairs,
        error_margin=config.error_margin,
        quality_margin=config.quality_margin,
        tasks=len(tasks),
    )
    kept = _Kept()

    def ask(some: Sequence[Task]) -> list[tuple[Reply, Reply]] | None:
        replies = pairs.ask(some)
        kept.add(replies or [])
        return replies

    standing = compare(rules, Rotation(tasks, setting.seed), ask, lambda now: _progress(rules, now))
    _report(standing.decision, standing.totals.pairs, standing.rounds, *kept.sides(standing))


def _first_deployment(pairs: Pairs, tasks: Sequence[Task], config: Canary) -> None:
    from llm_rollout.canary import first_deployment as first  # noqa: PLC0415 - as above
    from llm_rollout.canary.rotation import answer  # noqa: PLC0415

    floors = first.Floors(config.min_accuracy, config.max_error_rate)
    replies: list[Reply] = []
    while len(replies) < len(tasks):
        some = tasks[len(replies) : len(replies) + config.round_pairs]
        now = pairs.ask_candidate(some)
        if now is None:
            break
        replies += now
        tell({"event": "progress", "requests": len(replies), "tasks": len(tasks), "decision": "continue"})
    asked = list(zip(replies, tasks, strict=False))
    seen = first.tally([answer(reply, task) for reply, task in asked])
    whole = len(replies) == len(tasks)
    decision = (
        first.judge(floors, seen) if whole else first.cut_short(seen, len(tasks), "canary.deadline_seconds is over")
    )
    rounds = -(-len(replies) // config.round_pairs)
    _report(decision, len(replies), rounds, asdict(seen) | _failures(replies), None)


class _Kept:
    """Why requests failed, on both sides: evidence that the judge does not need and people do."""

    def __init__(self) -> None:
        self._stable: list[Reply] = []
        self._candidate: list[Reply] = []

    def add(self, replies: Sequence[tuple[Reply, Reply]]) -> None:
        self._stable += [stable for stable, _ in replies]
        self._candidate += [candidate for _, candidate in replies]

    def sides(self, standing: Standing) -> tuple[dict[str, Any], dict[str, Any]]:
        """The candidate's and stable's part of the report."""
        totals = standing.totals
        candidate = {"errors": totals.candidate_failed, "correct": totals.candidate_correct}
        stable = {"errors": totals.stable_failed, "correct": totals.stable_correct}
        both = {"requests": totals.pairs, "graded": totals.graded}
        return both | candidate | _failures(self._candidate), both | stable | _failures(self._stable)


def _failures(replies: Sequence[Reply]) -> dict[str, Any]:
    reasons = Counter(reply.failure for reply in replies if reply.failure)
    times = sorted(reply.ttft_ms for reply in replies if reply.ttft_ms is not None)
    median = {"ttft_ms_median": round(times[len(times) // 2], 1)} if times else {}
    return median | ({"failures": dict(reasons.most_common(_FAILURES_NAMED))} if reasons else {})


def _progress(rules: Any, standing: Standing) -> None:
    from llm_rollout.canary.judge import Judge  # noqa: PLC0415 - as above

    judge = Judge(rules)
    pots = {
        metric: {"worse": _short(worse), "not_worse": _short(held)}
        for metric, (worse, held) in judge.evidence(standing).items()
    }
    tell({
        "event": "progress",
        "round": standing.rounds,
        "pairs": standing.totals.pairs,
        "decision": standing.decision.outcome,
        "wealth": _short(judge.wealth(standing)),
        "pots": pots,
    })  # fmt: skip


def _report(
    decision: Decision, pairs: int, rounds: int, candidate: dict[str, Any], stable: dict[str, Any] | None
) -> None:
    tell({
        "event": "report",
        "decision": decision.outcome,
        "metric": decision.metric,
        "sentence": decision.sentence,
        "pairs": pairs,
        "rounds": rounds,
        "candidate": candidate,
        "stable": stable,
    })  # fmt: skip


def _config(text: str) -> Canary:
    from llm_rollout.spec import Canary  # noqa: PLC0415 - as above

    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except OSError as error:
            raise ValueError(f"{text[1:]}: {error.strerror}") from None
    return Canary.model_validate_json(text)


def _task_text(name: str) -> tuple[str, str]:
    """Text and name of a bundled set or of a file."""
    bundled = files("llm_rollout").joinpath("canary", "tasks")
    if "/" not in name and not name.endswith(".jsonl"):
        held = sorted(each.name.removesuffix(".jsonl") for each in bundled.iterdir() if each.name.endswith(".jsonl"))
        if name not in held:
            raise Permanent(f"canary.tasks: {name!r} is not bundled: write one of {', '.join(held)}, or a path")
        return bundled.joinpath(f"{name}.jsonl").read_text(encoding="utf-8"), name
    try:
        return Path(name).read_text(encoding="utf-8"), name
    except (OSError, UnicodeDecodeError) as error:
        raise Permanent(f"canary.tasks: {name} cannot be read ({error}): give a JSONL file in UTF-8") from None


def _seed(options: argparse.Namespace) -> int:
    """Repeatable for the same two revisions, another order for others."""
    if options.seed is not None:
        return int(options.seed)
    return zlib.crc32(f"{options.candidate} {options.stable}".encode())


def _short(number: float) -> float:
    return float(f"{number:.3g}")


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """End at once on SIGTERM, which the first process of a container ignores unless it handles it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: os._exit(_EXIT_TERMINATED))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _error(kind: str, message: str, remedy: str, code: int) -> int:
    tell(job_lines.error(kind, message, remedy))
    return code
