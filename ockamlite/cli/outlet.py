"""``ockamlite outlet``: its options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ockamlite.cli.options import (
    allow_relay_option,
    announce_option,
    common_options,
    forward_option,
    insecure_option,
    listen_option,
    names_options,
    option,
    trust_options,
)
from ockamlite.cli.table import Command, command_help

if TYPE_CHECKING:
    from ockamlite.cli.options import Common


@click.command(
    cls=Command,
    help=command_help(
        "outlet",
        "TARGET is the service, tcp:HOST:PORT. Whoever is allowed reaches it, and nothing else here.",
        "\b\nockamlite outlet tcp:127.0.0.1:22 --relay tcp:relay.example:4000 --name pi --allow I6c20e8...\n"
        "ockamlite outlet tcp:127.0.0.1:22 --listen tcp:0.0.0.0:4000 --allow I6c20e8...",
    ),
)
@click.argument("target")
@listen_option("Accept links here; repeatable.")
@option("--relay", multiple=True, metavar="HOPS", help="Register at the relay there; repeatable.")
@option("--name", metavar="NAME", help="The name to register; the relay makes one up if absent.")
@trust_options
@allow_relay_option
@insecure_option("The outlet")
@names_options("outlet")
@forward_option
@announce_option
@common_options
def command(common: Common, **options: Any) -> None:
    """Serve."""
    from ockamlite.cli.run.outlet import run

    run(common, **options)
