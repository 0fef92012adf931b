"""What the demo shows: steps as they happen, checks, figures; as text or as one JSON object."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ockamlite.cli.run.logs import iso_time
from ockamlite.cli.run.output import print_bytes, print_result

if TYPE_CHECKING:
    from ockamlite.cli.options import Common


class Report:
    """Collects, and prints in text form at once."""

    def __init__(self, common: Common) -> None:
        self._common = common
        self._began = time.monotonic()
        self.checks: list[dict[str, Any]] = []
        self.figures: dict[str, Any] = {}
        self.hops: list[dict[str, Any]] = []

    @property
    def is_ok(self) -> bool:
        """True if no check failed."""
        return all(check["ok"] for check in self.checks)

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return round(time.monotonic() - self._began, 1)

    def say(self, text: str = "") -> None:
        """Print a line of talk, in text form only."""
        if not self._common.json:
            print_bytes(f"{text}\n".encode(errors="backslashreplace"))

    def step(self, text: str) -> None:
        """Print what has just happened, with the time."""
        self.say(f"{self.seconds:5.1f} s  {text}")

    def check(self, name: str, ok: bool, detail: str) -> None:
        """Note the outcome of a check and print it."""
        self.checks.append({"name": name, "ok": ok, "detail": detail})
        self.step(f"{'ok    ' if ok else 'FAILED'}  {detail}")

    def finish(self, **more: Any) -> None:
        """Print the end: a verdict, or the JSON object."""
        failed = [check["name"] for check in self.checks if not check["ok"]]
        verdict = f"failed: {', '.join(failed)}" if failed else f"all {len(self.checks)} checks passed"
        print_result(
            self._common,
            f"\n{verdict} in {self.seconds:.1f} s",
            event="demo",
            time=iso_time(),
            ok=self.is_ok,
            seconds=self.seconds,
            checks=self.checks,
            figures=self.figures,
            hops=self.hops,
            **more,
        )
