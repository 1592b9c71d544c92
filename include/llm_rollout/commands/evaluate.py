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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_rollout.commands import job_lines
from llm_rollout.commands.job_lines import tell
from llm_rollout.errors import Permanent, Transient
from llm_rollout.names import digest

if TYPE_CHECKING:
    from llm_rollout.adapters.pairs import Pairs
    from llm_rollout.canary.judge import Standing
    from llm_rollout.canary.rotation import Reply, Rotation
    from llm_rollout.canary.rules import Rules
    from llm_rollout.canary.task_set import Task
    from llm_rollout.canary.trail import Trail
    from llm_rollout.spec import Canary

SUMMARY = "compare a candidate with the stable revision on the same prompts"

_ASKING_SHARE = 0.9
"""Of deadline_seconds: the rest is for the start of the pod, and for the report to be out before the Job is killed."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Define the flags."""
    parser.add_argument("--candidate", required=True, metavar="URL", help="root address of the candidate's server")
    parser.add_argument("--stable", metavar="URL", help="of the stable revision's server; none: first deployment")
    parser.add_argument("--model", required=True, metavar="NAME", help="the served name of the model on both")
    parser.add_argument("--config", default="{}", metavar="JSON|@FILE", help="the canary part of a spec (defaults)")
    parser.add_argument("--seed", type=int, help="of the order of tasks (default: from the addresses)")
    parser.add_argument("--resume", metavar="STATE", help="the state of the last progress line of an interrupted run")


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
    from llm_rollout.canary import task_files  # noqa: PLC0415 - as above
    from llm_rollout.canary.back_pressure import Limits  # noqa: PLC0415

    tasks = task_files.load(config.tasks)
    setting = Setting(
        model=options.model,
        max_tokens=config.max_tokens,
        limits=Limits(config.concurrency, config.share_of_capacity, config.max_waiting),
        deadline_seconds=time.monotonic() + _ASKING_SHARE * config.deadline_seconds,
        seed=_seed(options),
    )
    begun = _begun(options, config, tasks)
    with Pairs(options.candidate, options.stable, setting) as pairs:
        pairs.check()
        if options.stable:
            _compare(pairs, begun, config)
        else:
            _first_deployment(pairs, tasks, config)


@dataclass(frozen=True)
class _Begun:
    """A comparison where it begins, or where it was interrupted."""

    rotation: Rotation
    standing: Standing | None
    trail: Trail
    asked_of: str
    graded: int


def _begun(options: argparse.Namespace, config: Canary, tasks: tuple[Task, ...]) -> _Begun:
    from llm_rollout.canary import resumption, task_set  # noqa: PLC0415 - as above
    from llm_rollout.canary.rotation import Rotation  # noqa: PLC0415
    from llm_rollout.canary.trail import Trail  # noqa: PLC0415

    rotation, seed = Rotation(tasks, _seed(options)), _seed(options)
    asked_of = digest([options.candidate, options.stable, config.model_dump(), seed, [asdict(task) for task in tasks]])
    standing, trail = None, Trail()
    if options.resume:
        try:
            position = resumption.unpack(options.resume, asked_of)
            rotation.move_to(position.rotation)
        except ValueError as error:
            raise Permanent(f"--resume: {error}") from None
        standing, trail = position.standing, position.trail
    return _Begun(rotation, standing, trail, asked_of, task_set.graded(tasks))


def _compare(pairs: Pairs, begun: _Begun, config: Canary) -> None:
    from llm_rollout.canary import reporting, resumption  # noqa: PLC0415 - as above
    from llm_rollout.canary.comparison import compare  # noqa: PLC0415

    rules, kept = _rules(config, begun.graded), reporting.Kept()
    trail, states = begun.trail, {}

    def ask(some: Sequence[Task]) -> list[tuple[Reply, Reply]] | None:
        replies = pairs.ask(some)
        kept.add(replies or [])
        return replies

    def say(standing: Standing) -> None:
        nonlocal trail
        trail = trail.after(rules, standing)
        goes_on = standing.decision.outcome == "continue"
        states["state"] = resumption.pack(standing, begun.rotation, trail, begun.asked_of)
        tell(reporting.progress(rules, standing) | _pressure(pairs) | (states if goes_on else {}))

    standing = compare(rules, begun.rotation, ask, say, begun.standing)
    report = reporting.report(standing.decision, standing.totals.pairs, standing.rounds, *kept.sides(standing))
    out_of_time = standing.decision.outcome == "undecided" and standing.totals.pairs < rules.cap_pairs
    # The state holds the trail as well, and the record has no room for both.
    tell(report | _pressure(pairs) | (states if out_of_time else {"trail": trail.as_json()}))


def _rules(config: Canary, graded: int) -> Rules:
    from llm_rollout.canary.rules import MARGIN, WEIGHTS, Rules  # noqa: PLC0415 - as above

    return Rules(
        alpha=config.alpha,
        beta=config.beta,
        round_pairs=config.round_pairs,
        cap_pairs=config.max_pairs,
        required=config.required,
        warmup_pairs=config.warmup_pairs,
        weights={name: WEIGHTS[name] for name in config.required},
        margin={**MARGIN, "errors": config.error_margin, "quality": config.quality_margin},
        tasks=graded,
    )


def _pressure(pairs: Pairs) -> dict[str, Any]:
    """How hard stable was asked, and what could not be measured."""
    room = pairs.room
    return {
        "in_flight": room.pace.slots,
        "stable_ttft_rise": round(room.pace.rise, 3),
        "stable_has_gauges": room.known,
        "waited_for_stable_seconds": round(room.waited_seconds, 1),
        "pairs_without_times": pairs.unmeasured,
    }


def _first_deployment(pairs: Pairs, tasks: Sequence[Task], config: Canary) -> None:
    from llm_rollout.canary import first_deployment as first  # noqa: PLC0415 - as above
    from llm_rollout.canary import reporting  # noqa: PLC0415
    from llm_rollout.canary.rotation import answer  # noqa: PLC0415

    floors = first.Floors(config.min_accuracy, config.max_error_rate, config.max_ttft_ms)
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
    tell(reporting.report(decision, len(replies), rounds, asdict(seen) | reporting.side(replies), None))


def _config(text: str) -> Canary:
    from llm_rollout.spec import Canary  # noqa: PLC0415 - as above

    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except OSError as error:
            raise ValueError(f"{text[1:]}: {error.strerror}") from None
    return Canary.model_validate_json(text)


def _seed(options: argparse.Namespace) -> int:
    """Repeatable for the same two revisions, another order for others."""
    if options.seed is not None:
        return int(options.seed)
    return zlib.crc32(f"{options.candidate} {options.stable}".encode())


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """End at once on SIGTERM, which the first process of a container ignores unless it handles it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: os._exit(job_lines.EXIT_TERMINATED))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _error(kind: str, message: str, remedy: str, code: int) -> int:
    tell(job_lines.error(kind, message, remedy))
    return code
