"""``ockamlite relay``: its options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ockamlite.cli.options import announce_option, common_options, forward_option, listen_option, option
from ockamlite.cli.table import Command, command_help

if TYPE_CHECKING:
    from ockamlite.cli.options import Common


@click.command(
    cls=Command,
    help=command_help(
        "relay",
        "Outlets register a name here, inlets come through it. What passes is ciphertext to a relay, so "
        "it trusts nobody and needs to be trusted by nobody.",
        "\b\nockamlite relay --listen tcp:0.0.0.0:4000",
    ),
)
@listen_option("Accept links here [tcp:127.0.0.1:4000]; repeatable.")
@option(
    "--allow-register",
    multiple=True,
    metavar="IDENTIFIER",
    help="Who may register, through a secure channel; repeatable. Anyone if absent.",
)
@forward_option
@announce_option
@common_options
def command(common: Common, **options: Any) -> None:
    """Serve."""
    from ockamlite.cli.run.relay import run

    run(common, **options)
