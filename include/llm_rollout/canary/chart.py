"""Pots over rounds as an SVG picture: a line for each metric, the thresholds across, wealth on a logarithmic scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import log10

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 760, 360, 60, 36, 120, 40
"""Of a panel."""
_LEAST, _MOST = -3, 4
"""Decades shown: below a thousandth and above ten thousand nothing changes for a decision."""
_COLOURS = ("#d1495b", "#2f7fd1", "#c77d0a", "#2a9d6f", "#8e5bd1", "#7a7a7a")
"""Readable on white and on black."""


@dataclass(frozen=True)
class Panel:
    """A part of the picture: each metric's wealth after every round, and named wealths that mean something."""

    title: str
    pots: Mapping[str, Sequence[float]]
    thresholds: Mapping[str, float]


def draw(panels: Sequence[Panel], rounds: Sequence[int], rounds_are: str) -> str:
    """The picture of ``panels``, one below the other; wealth was looked at after each of ``rounds``.

    ``rounds_are`` says what a round is, for example ``rounds of 50 pairs``. The picture has no background, and text and
    axes take the colour of the page around it.
    """
    last = rounds[-1] if rounds else 0
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT * len(panels)}" role="img" '
        'font-family="sans-serif" font-size="12" fill="currentColor" stroke-linejoin="round">'
    )
    parts = [head, f"<title>Wealth of the pots over {last} {rounds_are}</title>"]
    for index, panel in enumerate(panels):
        parts += [f'<g transform="translate(0 {index * _HEIGHT})">', *_panel(panel, rounds, rounds_are), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel, rounds: Sequence[int], rounds_are: str) -> list[str]:
    parts = [f'<text x="{_LEFT}" y="{_TOP - 16}" font-weight="bold">{escape(panel.title)}</text>']
    parts += [_tick(power) for power in range(_LEAST, _MOST + 1)]
    middle, low = (_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - _BOTTOM
    last = rounds[-1] if rounds else 0
    parts.append(f'<text x="{middle:g}" y="{low + 28}" text-anchor="middle">{last} {rounds_are}</text>')
    parts += [_threshold(name, wealth) for name, wealth in panel.thresholds.items()]
    for index, (name, values) in enumerate(panel.pots.items()):
        parts += _line(index, name, values, rounds)
    return parts


def _tick(power: int) -> str:
    y = _y(10.0**power)
    return (
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}" stroke="#888" stroke-opacity="0.3"/>'
        f'<text x="{_LEFT - 6}" y="{y + 4:g}" text-anchor="end">{10.0**power:g}</text>'
    )


def _threshold(name: str, wealth: float) -> str:
    y = _y(wealth)
    return (
        f'<line class="threshold" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}" '
        'stroke="currentColor" stroke-dasharray="6 4"/>'
        f'<text x="{_LEFT + 4}" y="{y - 4:g}">{escape(name)} {wealth:g}</text>'
    )


def _line(index: int, name: str, values: Sequence[float], rounds: Sequence[int]) -> list[str]:
    colour = _COLOURS[index % len(_COLOURS)]
    step = (_WIDTH - _RIGHT - _LEFT) / max(1, *rounds)
    points = zip((0, *rounds), (1.0, *values), strict=True)
    where = " ".join(f"{_LEFT + step * number:.1f},{_y(value)}" for number, value in points)
    label_y = _TOP + 16 * (index + 1)
    return [
        f'<polyline points="{where}" fill="none" stroke="{colour}" stroke-width="2"/>',
        f'<text x="{_WIDTH - _RIGHT + 10}" y="{label_y}" fill="{colour}">{escape(name)}</text>',
    ]


def _y(wealth: float) -> float:
    power = min(max(log10(max(wealth, 1e-300)), _LEAST), _MOST)
    return round(_TOP + (_MOST - power) / (_MOST - _LEAST) * (_HEIGHT - _TOP - _BOTTOM), 1)
