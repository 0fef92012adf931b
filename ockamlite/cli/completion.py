"""``ockamlite completion``: what makes a shell complete our commands and options."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ockamlite.cli.options import common_options
from ockamlite.cli.table import Command, command_help

if TYPE_CHECKING:
    from ockamlite.cli.options import Common


@click.command(
    cls=Command,
    help=command_help(
        "completion",
        '\b\nbash   eval "$(ockamlite completion bash)"   in ~/.bashrc\n'
        'zsh    eval "$(ockamlite completion zsh)"    in ~/.zshrc\n'
        "fish   ockamlite completion fish > ~/.config/fish/completions/ockamlite.fish",
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@common_options
def command(common: Common, *, shell: str) -> None:
    """Print the script."""
    from click.shell_completion import ShellComplete, get_completion_class

    from ockamlite.cli.run.output import print_result

    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101  (the choice offers what click knows)
    completion = kind(click.get_current_context().find_root().command, {}, "ockamlite", "_OCKAMLITE_COMPLETE")
    # The method of the base class does not call the shell to ask for its version.
    script = ShellComplete.source(completion)
    print_result(common, script.rstrip("\n"), shell=shell, script=script)
