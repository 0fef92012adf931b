"""The markdown file: what was measured on what, by which command, and the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.tables import Table

BEGIN = "<!-- figures: everything from here to the end mark is written by `python -m benchmarks` -->"
END = "<!-- end of figures -->"
_HEADING = "# Performance\n"


def markdown(tables: Sequence[Table], facts: Mapping[str, str], command: str, remarks: Sequence[str]) -> str:
    """The generated part, marks included."""
    lines = [BEGIN, "", "Made by:", "", "```sh", command, "```", ""]
    lines += [
        "| machine | |",
        "| --- | --- |",
        *(f"| {name} | {value} |" for name, value in facts.items()),
        "",
    ]
    if remarks:
        lines += [*(f"- {remark}" for remark in remarks), ""]
    return "\n".join(lines) + "\n" + "\n".join(table.markdown() for table in tables) + f"\n{END}\n"


def placed(document: str, generated: str) -> str:
    """The document with its generated part replaced; prose around the marks stays.

    An empty document gets a heading; one without marks gets the part at its end.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END + "\n")
    if begin and end:
        return before + generated + after
    return (document or _HEADING) + "\n" + generated
