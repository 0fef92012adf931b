"""The result of a run: what was heard of the machine, as a page's section."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, Final

from ockamlite.errors import UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

BEGIN: Final = "<!-- result of make qemu: begin -->"
END: Final = "<!-- result of make qemu: end -->"


class Result:
    """What the checks found.

    Args:
        accelerator: by which the machine ran.
        package: the version of BlueZ's package.
    """

    def __init__(self, accelerator: str, package: str) -> None:
        self._accelerator = accelerator
        self._package = package
        self._versions: dict[str, str] = {}
        self._checks: list[dict[str, Any]] = []
        self._ended = False

    def heard(self, report: dict[str, Any]) -> None:
        """Take a report of the machine."""
        if report.get("fact") == "versions":
            self._versions = {name: str(value) for name, value in report.items() if name != "fact"}
        elif "check" in report:
            self._checks.append(report)
        elif report.get("end"):
            self._ended = True

    @property
    def holds(self) -> bool:
        """True if the machine came to its end and every check held."""
        return self._ended and bool(self._checks) and all(check.get("ok") for check in self._checks)

    def summary(self) -> str:
        """One line."""
        held = sum(bool(check.get("ok")) for check in self._checks)
        end = "" if self._ended else "; the machine ended before its time"
        return f"{held} of {len(self._checks)} checks held{end}"

    def markdown(self) -> str:
        """A section of a page."""
        known = self._versions
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        lines = [
            f"{today}, QEMU by {self._accelerator}: kernel {known.get('kernel')}, BlueZ {known.get('bluez')} "
            f"({self._package}), bleak {known.get('bleak')}, dbus-fast {known.get('dbus-fast')}, "
            f"bumble {known.get('bumble')}, Python {known.get('python')}. {self.summary()}.",
            "",
            "| check | | seconds | |",
            "| --- | --- | --- | --- |",
        ]
        for check in self._checks:
            sign = "held" if check.get("ok") else "**failed**"
            detail = str(check.get("detail", "")).replace("|", "\\|").replace("\n", " ")
            lines.append(f"| {check['check']} | {sign} | {check.get('seconds')} | {detail} |")
        return "\n".join(lines)

    def place(self, page: Path) -> None:
        """Put it between the marks of a page.

        Raises:
            UnavailableError: the page has no marks.
        """
        text = page.read_text()
        before, begin, rest = text.partition(BEGIN)
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise UnavailableError(f"{page} does not mark where the result goes", hint=f"{BEGIN} and {END}")
        page.write_text(f"{before}{BEGIN}\n{self.markdown()}\n{END}{after}")
