"""Tables as text for a terminal and as markdown. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.figures import Spread, ratios

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ABSENT = "-"


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of a measure."""

    key: str
    heading: str
    digits: int = 0
    ratio: bool = False
    """Also show it relative to the base tunnel, round by round."""


@dataclass(frozen=True, slots=True)
class Table:
    """Headings, rows of text, and remarks below."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default=())

    def text(self) -> str:
        """The table with aligned columns."""
        widths = [max(len(row[i]) for row in (self.headings, *self.rows)) for i in range(len(self.headings))]

        def line(cells: Iterable[str]) -> str:
            padded = [
                c.ljust(w) if i == 0 else c.rjust(w)
                for i, (c, w) in enumerate(zip(cells, widths, strict=True))
            ]
            return "  ".join(padded).rstrip()

        rule = "  ".join("-" * w for w in widths)
        body = [self.title, "", line(self.headings), rule, *map(line, self.rows)]
        return "\n".join([*body, *(f"  {note}" for note in self.notes), ""])

    def markdown(self) -> str:
        """The table in GitHub's markdown, under a heading of level 3."""

        def line(cells: Iterable[str]) -> str:
            return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"

        rule = "| --- |" + " ---: |" * (len(self.headings) - 1)
        body = [f"### {self.title}", "", line(self.headings), rule, *map(line, self.rows), ""]
        return "\n".join([*body, *(f"- {note}" for note in self.notes), *([""] if self.notes else [])])


def round_table(
    title: str,
    columns: Sequence[Column],
    results: Mapping[str, Mapping[int, Mapping[str, float]]],
    *,
    base: str,
    notes: Sequence[str] = (),
) -> Table:
    """Build a table with a row for each name in `results`.

    Args:
        title: The table's title.
        columns: What to show; a key that a row never measured shows as absent.
        results: Row name to round number to figures by key.
        base: The row that ratios are taken to; without it, ratio columns are left out.
        notes: Remarks printed below.
    """

    def values(name: str, key: str) -> dict[int, float]:
        return {n: figures[key] for n, figures in results[name].items() if key in figures}

    headings, show_ratio = [""], base in results and len(results) > 1
    for column in columns:
        headings.append(column.heading)
        if column.ratio and show_ratio:
            headings.append(f"x {base}")
    rows = []
    for name in results:
        row = [name]
        for column in columns:
            mine = values(name, column.key)
            row.append(Spread.of(list(mine.values())).text(column.digits) if mine else ABSENT)
            if column.ratio and show_ratio:
                shares = ratios(mine, values(base, column.key))
                row.append(Spread.of(shares).text(2) if shares else ABSENT)
        rows.append(row)
    return Table(title, headings, rows, tuple(notes))
