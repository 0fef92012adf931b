"""The markdown file: what was measured on what, by which command, and the tables.

Its two generated parts, of the tunnels and of the links, are made again independently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.tables import Table


@dataclass(frozen=True, slots=True)
class Part:
    """What stands around a generated part."""

    begin: str
    end: str


TUNNELS = Part(
    "<!-- figures: everything from here to the end mark is written by `python -m benchmarks` -->",
    "<!-- end of figures -->",
)
LINKS = Part(
    "<!-- links: everything from here to the end mark is written by `python -m benchmarks --only links` -->",
    "<!-- end of links -->",
)
_HEADING = "# Performance\n"


def markdown(
    part: Part, tables: Sequence[Table], facts: Mapping[str, str], command: str, remarks: Sequence[str]
) -> str:
    """A generated part, marks included."""
    lines = [part.begin, "", "Made by:", "", "```sh", command, "```", ""]
    lines += [
        "| machine | |",
        "| --- | --- |",
        *(f"| {name} | {value} |" for name, value in facts.items()),
        "",
    ]
    if remarks:
        lines += [*(f"- {remark}" for remark in remarks), ""]
    return "\n".join(lines) + "\n" + "\n".join(table.markdown() for table in tables) + f"\n{part.end}\n"


def placed(part: Part, document: str, generated: str) -> str:
    """The document with this generated part replaced; all else stays.

    An empty document gets a heading; one without the part's marks gets the part at its end.
    """
    before, begin, rest = document.partition(part.begin)
    _, end, after = rest.partition(part.end + "\n")
    if begin and end:
        return before + generated + after
    return (document or _HEADING) + "\n" + generated
