"""``ockamlite scan``: its options."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ockamlite.cli.options import Number, common_options, option
from ockamlite.cli.table import Command, command_help

if TYPE_CHECKING:
    from ockamlite.cli.options import Common

KINDS = ("ble", "serial", "tcp")


@click.command(
    cls=Command,
    help=command_help(
        "scan",
        "Looks for Bluetooth LE devices with our service, serial ports, and nodes that announce themselves "
        "by mDNS; without KIND for all that this machine can look for. On a terminal it shows them as they "
        "turn up.",
        "\b\nockamlite scan\nockamlite scan ble serial --seconds 10 --output json",
    ),
)
@click.argument("kinds", nargs=-1, metavar="[ble|serial|tcp]...", type=click.Choice(KINDS))
@option(
    "--seconds",
    type=Number(0, 3600),
    metavar="N",
    help="How long to look [5; serial ports alone are listed at once].",
)
@common_options
def command(common: Common, *, kinds: tuple[str, ...], seconds: float | None) -> None:
    """Look around."""
    from ockamlite.cli.run.scan import run

    run(common, kinds, seconds)
