"""Plays rows: rollouts to their comparison, what strikes them meanwhile, and their end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.evaluations.arena import Arena, Judged, Model, NotPlayedError, Watch
from benchmarks.evaluations.cases import Case, Scene, Strike, serving

Say = Callable[[str], None]


def play(arena: Arena, number: int, case: Case, runs: int, say: Say) -> Iterator[Judged]:
    """So many runs of a row. They share stable as long as nothing happens to it."""
    for model, some in _models(arena, f"ev{number:02d}", case, runs):
        for _ in range(some):
            judged = _run(model, case)
            say(describe(judged))
            yield judged


def describe(judged: Judged) -> str:
    """One line."""
    named = f" ({judged.metric})" if judged.metric else ""
    return f"{judged.end}{named} after {judged.pairs} pairs, {judged.seconds:.0f} s: {judged.told}"


def _models(arena: Arena, name: str, case: Case, runs: int) -> Iterator[tuple[Model, int]]:
    if not case.strikes_stable:
        with arena.model(name, serving()) as model:
            yield model, runs
        return
    for run in range(runs):
        with arena.model(f"{name}r{run}", serving()) as model:
            yield model, 1


def _run(model: Model, case: Case) -> Judged:
    try:
        rollout = model.candidate(case.candidate, case.canary)
        judged = model.evaluate(rollout, _watching(Scene(model, model.plan(rollout)), case))
        if not case.strikes_stable:
            model.remove(rollout)
    except NotPlayedError as error:
        return Judged("not played", "", 0, 0.0, str(error))
    return judged


def striking(scene: Scene, strike: Strike, at_pairs: int) -> Watch:
    """What watches a comparison, and strikes once when so many pairs were compared."""
    left = [strike]

    def watch(progress: Mapping[str, Any]) -> None:
        if left and progress.get("pairs", 0) >= at_pairs:
            left.pop()(scene)

    return watch


def _watching(scene: Scene, case: Case) -> Watch:
    """What happens to a row's comparison; at once where it need not have begun."""
    if case.strike is None:
        return lambda _: None
    watch = striking(scene, case.strike, case.strike_at_pairs)
    watch({})
    return watch


def spread(values: Sequence[float]) -> str:
    """The median of values, and from where to where they go."""
    ordered = sorted(values)
    if not ordered:
        return "-"
    middle = ordered[len(ordered) // 2]
    return f"{middle:.0f}" if ordered[0] == ordered[-1] else f"{middle:.0f} ({ordered[0]:.0f} to {ordered[-1]:.0f})"
