"""Options that several commands share, and which of them count when the environment gives some too."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import update_wrapper
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from collections.abc import Callable

_UNSET = (None, (), False)


@dataclass(frozen=True, slots=True)
class Common:
    """What every command is told."""

    json: bool
    """Print JSON, one object a line."""
    verbose: int
    quiet: bool
    json_log: bool
    identity: str
    """Name of the identity to use."""
    ephemeral: bool
    """Use a fresh identity that is never written to disk."""


class Number(click.FloatRange):
    """A number of a range; what is not a number is in none, though it compares with neither end."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read it."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


def option(*names: str, **settings: Any) -> Callable[[Any], Any]:
    """A click option that is also an environment variable, the same for every command."""
    longest = max(names, key=len).removeprefix("--")
    settings.setdefault("envvar", "OCKAMLITE_" + longest.replace("-", "_").upper())
    return click.option(*names, **settings)


def common_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what every command takes; ``function`` gets it as its first argument, a :class:`Common`."""

    def command(**given: Any) -> Any:
        identity = first_given("identity", "ephemeral")
        if len(identity) > 1:
            raise click.UsageError("--identity and --ephemeral exclude each other")
        common = Common(
            json=given.pop("output") == "json",
            verbose=given.pop("verbose"),
            quiet=given.pop("quiet"),
            json_log=given.pop("log_format") == "json",
            identity=str(identity.get("identity", "default")),
            ephemeral=bool(identity.get("ephemeral", False)),
        )
        del given["identity"], given["ephemeral"]
        return function(common, **given)

    update_wrapper(command, function)
    text_or_json = click.Choice(["text", "json"])
    for decorate in (
        option("--log-format", type=text_or_json, default="text", help="How logs on stderr look."),
        option("--quiet", is_flag=True, help="Log errors only."),
        option("-v", "--verbose", count=True, help="Log more; -vv: every frame, without payload."),
        option("--output", type=text_or_json, default="text", help="What stdout gets: text, or JSON lines."),
        option("--ephemeral", is_flag=True, help="A fresh identity that is never written to disk."),
        option("--identity", metavar="NAME", help="Which identity of this machine to use [default]."),
    ):
        command = decorate(command)
    return command


def trust_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--allow`` and ``--trust-everyone``."""
    for decorate in (
        option("--trust-everyone", is_flag=True, help="Anyone may be at the other end."),
        option(
            "--allow", multiple=True, metavar="IDENTIFIER", help="Who may be at the other end; repeatable."
        ),
    ):
        function = decorate(function)
    return function


def forward_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--forward``."""
    decorated: Callable[..., Any] = option(
        "--forward",
        multiple=True,
        metavar="KIND[:DETAILS]",
        help="Let messages that pass through go out over these links (tcp, tcp:10.0.0.7:4000); repeatable.",
    )(function)
    return decorated


def listen_option(text: str) -> Callable[[Any], Any]:
    """``--listen``, explained."""
    return option("--listen", multiple=True, metavar="ENDPOINT", help=text)


def announce_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--announce``."""
    decorated: Callable[..., Any] = option(
        "--announce",
        metavar="NAME",
        help="Tell the local network, by mDNS, that this listens at its tcp: endpoints [tells nobody].",
    )(function)
    return decorated


def insecure_option(what: str) -> Callable[[Any], Any]:
    """``--insecure``."""
    return option("--insecure", is_flag=True, help=f"{what} may be reached without a secure channel, too.")


def allow_relay_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--allow-relay``."""
    decorated: Callable[..., Any] = option(
        "--allow-relay",
        multiple=True,
        metavar="IDENTIFIER",
        help="Who the relay may be, when the hops to it hold a secure: hop; repeatable. Anyone if absent.",
    )(function)
    return decorated


def names_options(service: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add ``--service`` and ``--listener``."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        function = option(
            "--listener",
            default="secure_channel_listener",
            show_default=True,
            metavar="NAME",
            help="Address of the secure channel listener.",
        )(function)
        decorated: Callable[..., Any] = option(
            "--service", default=service, show_default=True, metavar="NAME", help="Address of the service."
        )(function)
        return decorated

    return decorate


def first_given(*names: str) -> dict[str, Any]:
    """Those of these options that were given: on the command line, or else in the environment.

    They answer one question together, so that a flag puts aside what the environment says to it.
    """
    context = click.get_current_context()
    for source in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT):
        found = {
            name: context.params[name]
            for name in names
            if name in context.params
            and context.get_parameter_source(name) is source
            and context.params[name] not in _UNSET
        }
        if found:
            return found
    return {}


def is_flag(name: str) -> bool:
    """True if the option was given on the command line and not by the environment."""
    source = click.get_current_context().get_parameter_source(name)
    return source is ParameterSource.COMMANDLINE
