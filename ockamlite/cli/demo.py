"""``ockamlite demo``: its options."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ockamlite.cli.options import common_options, option
from ockamlite.cli.table import Command, command_help

if TYPE_CHECKING:
    from ockamlite.cli.options import Common


@click.command(
    cls=Command,
    help=command_help(
        "demo",
        "Starts a web service on a device, two gateways, a relay and an inlet as processes of this tool, "
        "joined by an emulated Bluetooth LE radio, an emulated serial line and TCP; "
        "fetches a page and a file through them; shows that those in the middle saw ciphertext only; and "
        "leaves nothing behind. Fails if a check fails.",
    ),
)
@option("--keep", is_flag=True, help="Leave it running and print a URL to try.")
@common_options
def command(common: Common, *, keep: bool) -> int:
    """Show it."""
    from ockamlite.cli.run.demo.tour import run

    return run(common, keep=keep)
