"""The table of results, printed and kept as a page of the documentation."""

from __future__ import annotations

import datetime
import platform
import re
from typing import TYPE_CHECKING

from tests.interop.programs import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.interop.binaries import Binary

HEADS = ("scenario", "direction")
MARKS = {"passed": "yes", "failed": "**NO**", "skipped": "-"}


class Results:
    """What came out, by row (scenario and direction) and program; of several tests the worst."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], dict[str, str]] = {}

    def note(self, row: tuple[str, str], label: str, outcome: str) -> None:
        """One test of ``row`` with the program ``label``."""
        cells = self._rows.setdefault(row, {})
        cells[label] = max(cells.get(label, "skipped"), outcome, key=("skipped", "passed", "failed").index)

    def lines(self, binaries: Sequence[Binary]) -> list[str]:
        """The table in Markdown, a column for each of ``binaries``; nothing if nothing was noted."""
        if not self._rows:
            return []
        rows = [HEADS + tuple(binary.label for binary in binaries)]
        for row, cells in self._rows.items():
            rows.append(row + tuple(MARKS[cells.get(binary.label, "skipped")] for binary in binaries))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
        lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
        return lines


def page(table: list[str], binaries: Sequence[Binary]) -> str:
    """The page of the documentation that says what was run and what came out."""
    version = re.search(r'__version__.*"(.+)"', (ROOT / "ockamlite" / "_version.py").read_text())
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    programs = ", ".join(binary.label for binary in binaries if binary.path)
    return f"""# Interop with Ockam's Rust implementation

This page is written by the tests in `tests/interop/`; do not edit it. To run them: `make interop`, or

    OCKAM_PEER=… OCKAM=…:… python -m pytest tests/interop --interop-table docs/interop.md

Last run: {today}, ockamlite {version.group(1) if version else "?"}, Python {platform.python_version()}, \
{platform.system()} {platform.machine()}.

Against: {programs or "nothing"}. `ockam` is Ockam's own command, as released; `ockam-peer` is the small
program of `tests/interop/rust-peer/` on the public API of the crate `ockam`.

Each cell is one or more tests between separate processes on loopback: the `ockamlite` command on one side,
the Rust program on the other. *yes*: passed; **NO**: failed; -: not run, because the program is not there or
cannot do it.

{chr(10).join(table)}
"""
