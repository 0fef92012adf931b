"""``ockamlite identity``: its commands and their options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ockamlite.cli.options import common_options, option
from ockamlite.cli.table import Command, command_help

if TYPE_CHECKING:
    from collections.abc import Callable

    from ockamlite.cli.options import Common


@click.group(
    no_args_is_help=False,
    help=command_help(
        "identity",
        "NAME is 'default' if absent. The identity 'default' is made when it is first needed.",
    ),
)
def command() -> None:
    """Group the commands."""


def _command(
    name: str, text: str, *, takes_name: bool = True
) -> Callable[[Callable[..., None]], click.Command]:
    def decorate(function: Callable[..., None]) -> click.Command:
        decorated = common_options(function)
        if takes_name:
            decorated = click.argument("name", required=False)(decorated)
        made: click.Command = command.command(name, cls=Command, help=text)(decorated)
        return made

    return decorate


@_command("create", "Create an identity; print its identifier.")
def create(common: Common, *, name: str | None) -> None:
    """Create."""
    from ockamlite.cli.run import identity

    identity.create(common, name)


@_command("show", "Print the identifier of an identity.")
def show(common: Common, *, name: str | None) -> None:
    """Show."""
    from ockamlite.cli.run import identity

    identity.show(common, name)


@_command("list", "Print names and identifiers of this machine's identities.", takes_name=False)
def list_all(common: Common, **_: Any) -> None:
    """List."""
    from ockamlite.cli.run import identity

    identity.list_all(common)


@_command("export", "Print the public change history in hex, as other nodes import it.")
def export(common: Common, *, name: str | None) -> None:
    """Export."""
    from ockamlite.cli.run import identity

    identity.export(common, name)


@_command("rotate", "Replace the keys of an identity; its identifier stays the same.")
def rotate(common: Common, *, name: str | None) -> None:
    """Rotate."""
    from ockamlite.cli.run import identity

    identity.rotate(common, name)


@_command("delete", "Delete an identity and its keys; nothing brings them back.")
@option("--yes", is_flag=True, help="Do not ask.")
def delete(common: Common, *, name: str | None, yes: bool) -> None:
    """Delete."""
    from ockamlite.cli.run import identity

    identity.delete(common, name, yes=yes)
