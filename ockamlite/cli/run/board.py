"""What ``ockamlite board`` does."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from boards.detection import Detection, detect
from boards.doctor import examine
from boards.machine import Machine
from boards.profiles import all_profiles, load
from ockamlite.cli.run.logs import printable, set_up
from ockamlite.cli.run.output import print_result

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ockamlite.cli.options import Common


def show(common: Common, root: Path, name: str | None) -> None:
    """Print which board this is, its endpoints, and what is in their way.

    Raises:
        NotFoundError: there is no profile of that name.
    """
    set_up(common)
    if name is None:
        found = detect(root)
    else:
        profile = load(name)
        found = Detection(profile, profile.title, (f"--profile: {name}",))
    report = examine(Machine(root), found.profile)
    endpoints = [str(endpoint) for endpoint in report.endpoints]
    lines = [f"{found.profile.name}: {printable(found.model)}"]
    lines += _block("seen", found.evidence)
    lines += _block("endpoints", endpoints)
    lines += _block("in the way", (f"{found.what}\n    try: {found.fix}" for found in report.obstacles))
    lines += _block("notes", report.notes)
    print_result(
        common,
        "\n".join(lines),
        board=found.profile.name,
        model=found.model,
        evidence=list(found.evidence),
        endpoints=endpoints,
        obstacles=[asdict(obstacle) for obstacle in report.obstacles],
    )


def list_all(common: Common) -> None:
    """Print the profiles: their names in text, all they hold in JSON."""
    set_up(common)
    for profile in all_profiles():
        facts = asdict(profile)
        print_result(
            common,
            f"{profile.name:26} {profile.title}",
            board=facts.pop("name"),
            model=facts.pop("title"),
            **facts,
        )


def _block(title: str, entries: Iterable[str]) -> list[str]:
    lines = [f"  {printable(entry, keep=chr(10))}" for entry in entries]
    return [f"{title}:", *lines] if lines else []
