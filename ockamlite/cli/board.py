"""``ockamlite board``: its options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ockamlite.cli.options import common_options, option
from ockamlite.cli.table import Command, command_help

if TYPE_CHECKING:
    from ockamlite.cli.options import Common


@click.command(
    cls=Command,
    help=command_help(
        "board",
        "Prints the endpoints to use, what is in their way, and what to do about that. With 'list', the "
        "boards that are known.",
        "\b\nockamlite board\nockamlite board list\nockamlite board --profile raspberry-pi-4b",
    ),
)
@click.argument("what", required=False, metavar="[list]", type=click.Choice(["list"]))
@option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("/"),
    metavar="DIR",
    help="Read /proc, /sys and /dev below DIR.",
)
@option("--profile", metavar="NAME", help="Take it for this board.")
@common_options
def command(common: Common, *, what: str | None, root: Path, profile: str | None) -> None:
    """Show the board, or list those that are known."""
    from ockamlite.cli.run import board

    if what == "list":
        board.list_all(common)
    else:
        board.show(common, root, profile)
