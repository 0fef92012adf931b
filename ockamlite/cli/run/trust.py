"""Who may be at the other end, as the options say; and the refusal when they say nothing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import click

from ockamlite.cli.options import first_given, is_flag
from ockamlite.errors import UsageError
from ockamlite.secure_channels.trust import TrustEveryone, TrustIdentifiers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ockamlite.cli.options import Common
    from ockamlite.cli.run.state import State
    from ockamlite.secure_channels.trust import Trust

logger = logging.getLogger(__name__)


def chosen_trust() -> Trust | None:
    """What ``--allow`` and ``--trust-everyone`` say; None if neither is given.

    Raises:
        UsageError: both are given, or something that is no identifier.
    """
    given = first_given("allow", "trust_everyone")
    if len(given) > 1:
        raise UsageError("--allow and --trust-everyone contradict each other", hint="leave one of them out")
    if "trust_everyone" in given:
        return TrustEveryone()
    return identifiers("allow", given["allow"]) if given else None


def identifiers(option: str, texts: Sequence[str]) -> TrustIdentifiers:
    """Trust these identifiers.

    Raises:
        UsageError: one of them is malformed.
    """
    try:
        return TrustIdentifiers(*texts)
    except UsageError as error:
        raise UsageError(f"--{option.replace('_', '-')}: {error}", hint=error.hint) from error


def relay_trust(*, is_known: bool) -> Trust:
    """Whom the hops before the last secure channel may lead to: anyone unless ``--allow-relay`` says more.

    Args:
        is_known: the hops to a relay open a secure channel, which tells who it is.

    Raises:
        UsageError: ``--allow-relay`` is given and cannot hold, or is malformed.
    """
    allowed = click.get_current_context().params["allow_relay"]
    if not allowed:
        return TrustEveryone()
    if not is_known and is_flag("allow_relay"):
        raise UsageError(
            "--allow-relay cannot hold: no hop to the relay tells who it is",
            hint="a hop such as secure:secure_channel_listener behind that of the relay",
        )
    return identifiers("allow_relay", allowed)


def trust_for_routes(common: Common, state: State, routes: Sequence[bool]) -> Trust | None:
    """The trust for routes that we open.

    Args:
        common: the common options.
        state: our identity, for the text of a refusal.
        routes: of each route, whether it opens a secure channel.

    Raises:
        UsageError: one opens a channel and nobody is trusted; or somebody is named and no channel
            would prove it.
    """
    trust = chosen_trust()
    if trust is None:
        if any(routes):
            choices = "--allow IDENTIFIER (of the other machine) or --trust-everyone"
            raise refusal(common, state, "nobody is allowed to be at the other end", choices)
        return None
    if not all(routes) and isinstance(trust, TrustIdentifiers):
        if is_flag("allow"):
            raise UsageError(
                "--allow cannot hold: the route opens no secure channel, so nobody is known at its end",
                hint="add a hop such as secure:secure_channel_listener, or leave out --allow",
            )
        logger.warning("OCKAMLITE_ALLOW has no effect: the route opens no secure channel")
    return trust


def refusal(common: Common, state: State, what: str, choices: str) -> UsageError:
    """The error when nobody is trusted: the choices, and who this machine is."""
    if common.ephemeral:
        us = "with --ephemeral this machine has another identifier each time"
    else:
        us = f"this machine's own identifier is {state.identity.identifier}"
    return UsageError(f"{what}; {us}", hint=choices)


def warn_of_everyone(trust: Trust | None) -> None:
    """Say once that anyone is trusted."""
    if isinstance(trust, TrustEveryone):
        logger.warning("anyone may be at the other end (--trust-everyone)")


def warn_of_insecure(what: str, insecure: bool) -> None:
    """Say once that something is reachable in clear."""
    if insecure:
        logger.warning("%s may be reached without a secure channel, by anyone, in clear (--insecure)", what)
