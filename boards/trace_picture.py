"""Traces as pictures: a column for each node, an arrow for each message, in the order of sending.

    seconds        gateway                    device
    0.001000          |------- 46 B --------->|       echo <- ~1, over serial gateway-device
    0.200000          |======= 131 B ========>|       ~4, over serial gateway-device

Arrows of ``=`` are sealed, of ``~`` a handshake; the rest is readable to whoever sees that hop. An ``x`` in
place of the tip: it did not arrive.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

from boards.trace_step import Contents

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from boards.trace_step import Step

_LINES: Final = {Contents.SEALED: "=", Contents.HANDSHAKE: "~"}
_COLOURS: Final = {
    Contents.PLAIN: "#b3261e",
    Contents.SEALED: "#1b6e3c",
    Contents.HANDSHAKE: "#5f6368",
    Contents.DAMAGED: "#8a5a00",
}
_TIME_WIDTH: Final = 14
_COLUMN: Final = 26
_SVG_COLUMN: Final = 200
_SVG_ROW: Final = 26
_SVG_LEFT: Final = 110
_SVG_TOP: Final = 46


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of a picture: a message from its sending to its arrival, or a link that changed."""

    step: Step
    arrival: Step | None = None
    """None if it did not arrive."""

    @property
    def contents(self) -> Contents | None:
        """What it holds: where it arrives, more is known than where it is sent."""
        return (self.arrival or self.step).contents


def as_text(steps: Iterable[Step], nodes: Sequence[str], most: int) -> str:
    """The picture for terminals."""
    rows, left_out = _rows(steps, most)
    columns = {name: place for place, name in enumerate(nodes)}
    middle = _COLUMN // 2
    head = "".join(f"{name[: _COLUMN - 2]:^{_COLUMN}}" for name in nodes)
    lines = [f"{'seconds':<{_TIME_WIDTH}}{head}".rstrip()]
    if left_out:
        lines.append(f"({left_out} earlier ones are not shown)")
    for row in rows:
        step = row.step
        canvas = [" "] * (_COLUMN * len(nodes))
        for place in range(len(nodes)):
            canvas[place * _COLUMN + middle] = "|"
        if row.contents is not None:
            here, there = (columns[name] * _COLUMN + middle for name in (step.source, step.target))
            left, right = min(here, there) + 1, max(here, there)
            label = f" {step.size} B "
            arrow = list(f"{label:{_LINES.get(row.contents, '-')}^{right - left}}")
            tip = "x" if row.arrival is None else ">" if here < there else "<"
            arrow[-1 if here < there else 0] = tip
            canvas[left:right] = arrow
        lines.append(f"{step.at:<{_TIME_WIDTH}.6f}{''.join(canvas)} {_about(step)}".rstrip())
    return "\n".join(lines) + "\n"


def as_svg(steps: Iterable[Step], nodes: Sequence[str], most: int) -> str:
    """The picture for documents."""
    rows, left_out = _rows(steps, most)
    middles = {name: _SVG_LEFT + _SVG_COLUMN * place + 60 for place, name in enumerate(nodes)}
    width = _SVG_LEFT + _SVG_COLUMN * max(1, len(nodes)) + 420
    height = _SVG_TOP + _SVG_ROW * (len(rows) + 2)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        "<title>Messages of a run, hop by hop</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for name, x in middles.items():
        out += [
            f'<text x="{x}" y="20" text-anchor="middle" font-weight="bold">{escape(name)}</text>',
            f'<line x1="{x}" y1="28" x2="{x}" y2="{height - 8}" stroke="#c4c7c5"/>',
        ]
    if left_out:
        out.append(f'<text x="8" y="38" fill="#5f6368">{left_out} earlier ones are not shown</text>')
    for place, row in enumerate(rows):
        out += _svg_row(row, _SVG_TOP + _SVG_ROW * (place + 1), middles)
    return "\n".join([*out, "</svg>"]) + "\n"


def _svg_row(row: _Row, y: int, middles: dict[str, int]) -> Iterable[str]:
    step = row.step
    out = [f'<text x="8" y="{y + 4}" fill="#5f6368">{step.at:.6f} s</text>']
    right = max(middles.values()) + 20
    out.append(f'<text x="{right}" y="{y + 4}" fill="#3c4043">{escape(_about(step))}</text>')
    if row.contents is None:
        return out
    colour = _COLOURS[row.contents]
    x, end = middles[step.source], middles[step.target]
    sign = 1 if x < end else -1
    dashes = ' stroke-dasharray="5 4"' if row.arrival is None else ""
    tip = end if row.arrival is not None else (x + end) // 2
    marks = (
        f'<path d="M{tip} {y} l{-8 * sign} -4 v8 z" fill="{colour}"/>'
        if row.arrival is not None
        else f'<path d="M{tip - 5} {y - 5} l10 10 m0 -10 l-10 10" stroke="{colour}" stroke-width="2"/>'
    )
    label = f"{step.size} B {row.contents}"
    out.append(
        f'<g><title>{escape(label)}</title><line x1="{x}" y1="{y}" x2="{tip - 6 * sign}" y2="{y}" '
        f'stroke="{colour}" stroke-width="1.5"{dashes}/>{marks}'
        f'<text x="{(x + end) // 2}" y="{y - 5}" text-anchor="middle" fill="{colour}">{label}</text></g>'
    )
    return out


def _rows(steps: Iterable[Step], most: int) -> tuple[list[_Row], int]:
    arrivals: dict[tuple[str, str, str], dict[int, Step]] = defaultdict(dict)
    rows: list[_Row] = []
    for step in steps:
        way = (step.link, step.source, step.target)
        if step.event == "arrived" and step.number is not None:
            arrivals[way][step.number] = step
        else:
            rows.append(_Row(step))
    shown = [
        _Row(row.step, arrivals[row.step.link, row.step.source, row.step.target].get(row.step.number))
        if row.step.event == "sent" and row.step.number is not None
        else _Row(row.step, row.step)
        for row in rows[-most:]
    ]
    return shown, len(rows) - len(shown)


def _about(step: Step) -> str:
    if step.contents is None:
        text = f"{step.source}: {step.link} {'up' if step.event == 'link-up' else 'down'}"
        return f"{text}: {step.reason}" if step.reason else text
    to = "no message" if step.contents is Contents.DAMAGED else ", ".join(step.onward)
    back = f" <- {', '.join(step.back)}" if step.back else ""
    note = " (repeated or changed on the way)" if step.number is None else ""
    return f"{to}{back}, over {step.link}{note}"
