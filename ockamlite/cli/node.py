"""``ockamlite node``: its options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ockamlite.cli.options import (
    announce_option,
    common_options,
    forward_option,
    insecure_option,
    listen_option,
    names_options,
    trust_options,
)
from ockamlite.cli.table import Command, command_help

if TYPE_CHECKING:
    from ockamlite.cli.options import Common


@click.command(
    cls=Command,
    help=command_help(
        "node",
        "echo returns what it gets to anyone; uppercase answers a string with itself in capitals to those "
        "who are allowed.",
        "\b\nockamlite node --listen tcp:127.0.0.1:4000 --allow I6c20e8...",
    ),
)
@listen_option("Accept links here [tcp:127.0.0.1:0]; repeatable.")
@trust_options
@insecure_option("uppercase")
@names_options("uppercase")
@forward_option
@announce_option
@common_options
def command(common: Common, **options: Any) -> None:
    """Serve."""
    from ockamlite.cli.run.node import run

    run(common, **options)
