"""``ockamlite inlet``: its options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ockamlite.cli.options import allow_relay_option, common_options, option, trust_options
from ockamlite.cli.table import Command, command_help

if TYPE_CHECKING:
    from ockamlite.cli.options import Common


@click.command(
    cls=Command,
    help=command_help(
        "inlet",
        "BIND is where clients connect to, tcp:HOST:PORT; port 0 picks one. Of several --relay, --via and "
        "--to the first that is open is used, in the order in which they are given.",
        "\b\nockamlite inlet tcp:127.0.0.1:2222 --relay tcp:relay.example:4000 --name pi --allow I0f93aa...\n"
        "ockamlite inlet tcp:127.0.0.1:2222 --via tcp:10.0.0.7:4000 --allow I0f93aa...",
    ),
)
@click.argument("bind")
@option("--relay", multiple=True, metavar="HOPS", help="Go through the relay there; repeatable.")
@option("--name", metavar="NAME", help="The name that the outlet registered at the relay.")
@option(
    "--via",
    multiple=True,
    metavar="HOPS",
    help="Hops to the outlet's node; secure:secure_channel_listener,outlet is added. Repeatable.",
)
@option("--to", multiple=True, metavar="ROUTE", help="The whole route, nothing is added; repeatable.")
@trust_options
@allow_relay_option
@common_options
def command(common: Common, **options: Any) -> None:
    """Serve."""
    from ockamlite.cli.run.inlet import run

    run(common, **options)
