"""``ockamlite send``: its options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ockamlite.cli.options import Number, common_options, option, trust_options
from ockamlite.cli.table import Command, command_help

if TYPE_CHECKING:
    from ockamlite.cli.options import Common


@click.command(
    cls=Command,
    help=command_help(
        "send",
        "TEXT goes as a string, and the reply is one; '-' reads it from stdin, without its last line end.",
        "\b\nockamlite send tcp:127.0.0.1:4000,echo hello\n"
        "ockamlite send tcp:127.0.0.1:4000,secure:secure_channel_listener,uppercase hello --allow I0f93aa...",
    ),
)
@click.argument("route")
@click.argument("text")
@option("--hex", is_flag=True, help="TEXT is hex, the exact payload; so is what is printed.")
@option("--raw", is_flag=True, help="TEXT's bytes are the exact payload; the reply's bytes go to stdout.")
@option(
    "--timeout",
    type=Number(min=0, min_open=True, max=86400),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the reply.",
)
@trust_options
@common_options
def command(common: Common, **options: Any) -> None:
    """Ask."""
    from ockamlite.cli.run.send import run

    run(common, **options)
