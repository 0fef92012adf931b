"""The commands, with the line that helps to choose one; and how they are found without importing all.

Nothing but click is imported here: ``ockamlite --help`` is as quick as Python starts.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

if TYPE_CHECKING:
    from collections.abc import Sequence


class Entry(NamedTuple):
    """One command of the table."""

    module: str
    """Where it is; the command there is called ``command``."""
    text: str
    """First line of its help."""


COMMANDS: Final[dict[str, Entry]] = {
    "outlet": Entry(
        "ockamlite.cli.outlet", "An outlet connects: it stands near a service and dials it for others."
    ),
    "inlet": Entry(
        "ockamlite.cli.inlet", "An inlet listens: it stands near a client and leads it to an outlet."
    ),
    "relay": Entry("ockamlite.cli.relay", "A relay forwards: it has an address that both ends can reach."),
    "node": Entry(
        "ockamlite.cli.node", "A node is a process with addresses and workers: here echo and uppercase."
    ),
    "send": Entry("ockamlite.cli.send", "Send one message along a route and print the reply."),
    "identity": Entry("ockamlite.cli.identity", "An identity is who a node is: create, show, rotate it."),
    "board": Entry(
        "ockamlite.cli.board", "Say which board this is, which links it has and what blocks them."
    ),
    "scan": Entry(
        "ockamlite.cli.scan", "Look for neighbours: Bluetooth LE, serial ports, the local network."
    ),
    "emulate": Entry(
        "ockamlite.cli.emulate", "Lines and an air without hardware, for other commands to use."
    ),
    "demo": Entry("ockamlite.cli.demo", "The whole system on this machine, without hardware, in seconds."),
    "completion": Entry("ockamlite.cli.completion", "Print what makes a shell complete our options."),
}


class Command(click.Command):
    """A command that remembers in which order its options were given."""

    def make_parser(self, ctx: click.Context) -> Any:
        """Note the order while parsing; click itself keeps it per option only."""
        parser = super().make_parser(ctx)
        parse = parser.parse_args

        def noting(args: list[str]) -> tuple[dict[str, Any], list[str], list[click.Parameter]]:
            values, rest, order = parse(args)
            ctx.meta[ORDER] = tuple(parameter.name for parameter in order)
            return values, rest, order

        parser.parse_args = noting  # type: ignore[method-assign]
        return parser


ORDER: Final = "ockamlite.order"
"""Key in a context's ``meta``: the names of the parameters, one for each time it was given."""


class Commands(click.Group):
    """The group of all commands; imports the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, the main ones first."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command of that name."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = import_module(entry.module).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.text) for name, entry in COMMANDS.items()])


def command_help(name: str, *paragraphs: str) -> str:
    r"""The help of a command: its line of the table, then paragraphs (``\b`` keeps lines as they are)."""
    return "\n\n".join((COMMANDS[name].text, *paragraphs))


def in_order(ctx: click.Context, names: Sequence[str]) -> list[tuple[str, str]]:
    """The values of several options in the order in which they were given, with the option's name."""
    left = {name: list(ctx.params[name]) for name in names}
    ordered = [(name, left[name].pop(0)) for name in ctx.meta.get(ORDER, ()) if left.get(name)]
    return ordered + [(name, value) for name in names for value in left[name]]
