"""``ockamlite emulate``: its options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ockamlite.cli.options import Number, common_options, option
from ockamlite.cli.table import Command, command_help

if TYPE_CHECKING:
    from ockamlite.cli.options import Common

_RATIO = Number(0, 1, max_open=True)


@click.command(
    cls=Command,
    help=command_help(
        "emulate",
        "Other commands use them with the endpoints that they would use on hardware: serial:A and serial:B "
        "are the ends of a line; ble: is the emulated air where the printed environment is set.",
        "\b\nockamlite emulate --serial ./a:./b --baud 9600\nockamlite emulate --ble --loss 0.01",
    ),
)
@option(
    "--serial",
    multiple=True,
    metavar="A:B",
    help="A line; A and B become serial devices, as links to terminals; repeatable.",
)
@option("--ble", is_flag=True, help="An air for Bluetooth LE devices.")
@option("--board", metavar="NAME", help="No faster than this board's port and adapter [as wanted].")
@option("--seed", type=int, default=0, show_default=True, metavar="N", help="Decides what gets lost.")
@option(
    "--baud",
    type=click.IntRange(50, 20_000_000),
    metavar="N",
    help="Speed of the lines [what each end is set to].",
)
@option("--noise", type=_RATIO, default=0.0, metavar="RATIO", help="Bits turned on the lines [0].")
@option(
    "--loss",
    type=_RATIO,
    default=0.0,
    metavar="RATIO",
    help="Bytes lost on the lines, packets on the air [0].",
)
@option(
    "--mtu", type=click.IntRange(23, 517), default=517, show_default=True, metavar="N", help="Of the air."
)
@common_options
def command(common: Common, **options: Any) -> None:
    """Serve."""
    from ockamlite.cli.run.emulate import run

    run(common, **options)
