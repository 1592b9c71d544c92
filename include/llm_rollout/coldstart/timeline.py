"""A picture of a start: every rank's phases over time, its ends, and the first cause marked. Plain SVG, no library."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from llm_rollout import clock
from llm_rollout.coldstart import deaths, happened, lives, starting, words
from llm_rollout.coldstart.deaths import Death
from llm_rollout.coldstart.lives import Life
from llm_rollout.ports import Manifest

COLOURS = {
    "scheduling": "#9aa0a6", "volumes": "#b39ddb", "image_pull": "#4fc3f7", "process": "#4db6ac",
    "rendezvous": "#7986cb", "weights": "#ffb300", "compile": "#f06292", "kv_cache": "#a1887f",
    "graph_capture": "#ba68c8", "engine_up": "#81c784", "serving": "#43a047", "stopped": "#757575",
}  # fmt: skip
_LEFT, _WIDTH, _ROW, _TOP = 260, 900, 22, 40
_STYLE = (
    "text{font:12px sans-serif;fill:#1f2328}rect.bar{stroke:none}.end{stroke:#d32f2f;stroke-width:3}"
    ".first{fill:#d32f2f;font-weight:bold}@media(prefers-color-scheme:dark){text{fill:#e6edf3}.first{fill:#ff8a80}}"
)


@dataclass(frozen=True)
class Span:
    """One phase of one life. Times are in seconds since the epoch."""

    pod: str
    phase: str
    start: float
    end: float


def spans(found: Iterable[Life], events: Sequence[Manifest]) -> list[Span]:
    """The phases of all lives, by pod and time; a life ends with its container or with its last line."""
    every = [span for life in found for span in _of(life, events)]
    return sorted(every, key=lambda span: (span.pod, span.start))


def durations(found: Iterable[Life], events: Sequence[Manifest]) -> dict[str, float]:
    """How long each phase took on the rank that took longest, in seconds."""
    longest: dict[str, float] = {}
    for span in spans(found, events):
        longest[span.phase] = round(max(longest.get(span.phase, 0.0), span.end - span.start), 1)
    return longest


def svg(bars: Sequence[Span], first: Sequence[Death]) -> str:
    """The picture; readable on dark and on light ground. ``first`` are the deaths of the generation that died last."""
    begin = min(bar.start for bar in bars)
    end = max(begin + 1, *(bar.end for bar in bars))
    rows = {pod: index for index, pod in enumerate(dict.fromkeys(bar.pod for bar in bars))}
    height = _TOP + _ROW * len(rows) + 60
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 20} {height}" role="img">',
        f"<title>Cold start from {clock.rfc3339(begin)}</title><style>{_STYLE}</style>",
        f'<text x="8" y="20">{clock.rfc3339(begin)}, {end - begin:.0f} s</text>',
        *(f'<text x="8" y="{_TOP + _ROW * row + 15}">{escape(pod)}</text>' for pod, row in rows.items()),
        *(_bar(bar, rows[bar.pod], begin, end) for bar in bars),
        *_ends(first, rows, begin, end, height),
        *_legend(bars, height),
        "</svg>",
    ]
    return "\n".join(parts)


def _of(life: Life, events: Sequence[Manifest]) -> list[Span]:
    marks = {**starting.reached(life.text), **_cluster_marks(life, events)}
    over = clock.seconds(life.end.get("finishedAt"))
    last = max([over or 0.0, *lives.stamps(life.text)[-1:], *marks.values()])
    # The cluster writes whole seconds: phases that began in the same one come in their own order.
    starts = sorted(marks.items(), key=lambda mark: (mark[1], words.PHASES.index(mark[0])))
    ends = [*(moment for _, moment in starts[1:]), last]
    return [Span(life.name, phase, start, end) for (phase, start), end in zip(starts, ends, strict=True)]


def _cluster_marks(life: Life, events: Sequence[Manifest]) -> dict[str, float]:
    """When the cluster's phases began; of the first life of a pod only, since a restart has none."""
    marks = {"process": life.started} if life.started is not None else {}
    if life.restart:
        return marks
    conditions = life.pod.get("status", {}).get("conditions") or []
    placed = next((one for one in conditions if one["type"] == "PodScheduled" and one.get("status") == "True"), None)
    marks["scheduling"] = life.born
    if placed is not None:
        marks["volumes"] = clock.seconds(placed.get("lastTransitionTime")) or life.born
    pulling = [happened.first(event) for event in happened.about(events, life.pod, "Pulling")]
    return {**marks, "image_pull": min(pulling)} if pulling else marks


def _bar(bar: Span, row: int, begin: float, end: float) -> str:
    left, right = _x(bar.start, begin, end), _x(bar.end, begin, end)
    told = f"{bar.phase} {bar.end - bar.start:.1f} s"
    return (
        f'<rect class="bar" x="{left:.1f}" y="{_TOP + _ROW * row}" width="{max(1.0, right - left):.1f}" '
        f'height="{_ROW - 6}" fill="{COLOURS.get(bar.phase, "#999")}"><title>{escape(told)}</title></rect>'
    )


def _ends(found: Sequence[Death], rows: dict[str, int], begin: float, end: float, height: int) -> list[str]:
    parts = []
    for death in found:
        if death.pod in rows:
            x, y = _x(death.ended, begin, end), _TOP + _ROW * rows[death.pod]
            told = f"<title>{escape(death.class_name)}</title>"
            parts.append(f'<line class="end" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 2}" y2="{y + _ROW - 4}">{told}</line>')
    root = deaths.first_of(found)
    if root is not None:
        text = f"first: {root.pod}: {root.class_name}: {root.message}"
        parts.append(f'<text class="first" x="8" y="{height - 34}">{escape(happened.one_line(text, 150))}</text>')
    return parts


def _legend(bars: Sequence[Span], height: int) -> list[str]:
    parts, x = [], 8
    for phase in (phase for phase in COLOURS if any(bar.phase == phase for bar in bars)):
        parts.append(f'<rect x="{x}" y="{height - 20}" width="10" height="10" fill="{COLOURS[phase]}"/>')
        parts.append(f'<text x="{x + 14}" y="{height - 11}">{phase}</text>')
        x += 26 + 8 * len(phase)
    return parts


def _x(moment: float, begin: float, end: float) -> float:
    return _LEFT + _WIDTH * (min(max(moment, begin), end) - begin) / (end - begin)
