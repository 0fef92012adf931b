"""Routes from options, checked before anything is started; and several of them in order of preference."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import click

from ockamlite.cli.options import first_given, is_flag
from ockamlite.cli.table import in_order
from ockamlite.errors import OckamError, ProtocolError, UnavailableError, UsageError
from ockamlite.events import RouteChanged
from ockamlite.limits import LIMITS
from ockamlite.relays.protocol import PREFIX, check_name
from ockamlite.routing.endpoint import Endpoint, HostPort, TextError
from ockamlite.routing.hops import LinkHop, NameHop, SecureHop, format_hops, parse_hops
from ockamlite.routing.link_hops import link_address

if TYPE_CHECKING:
    from ockamlite.events import OnEvent
    from ockamlite.paths import Path
    from ockamlite.routing.hops import Hop
    from ockamlite.routing.route import Route

logger = logging.getLogger(__name__)

OUTLET: Final = "outlet"
LISTENER: Final = "secure_channel_listener"
_PREFERENCE_S: Final = 1.0
"""How long a better way, still being opened, is waited for when a worse one is open."""


def read_hops(option: str, text: str) -> tuple[Hop, ...]:
    """Read the hops that an option gives, and check that they can be gone.

    Raises:
        UsageError: malformed, or not beginning with a link, or with a link on the way that cannot be
            asked for; says in which hop.
        UnavailableError: it begins with ``serial:auto``, and no port is free.
    """
    try:
        hops = parse_hops(text)
        first = hops[0]
        if not isinstance(first, LinkHop):
            raise TextError(
                "a route begins with a link", 1, hop=1, hint="begin with a hop such as tcp:HOST:PORT"
            )
        for number, hop in enumerate(hops[1:], 2):
            if isinstance(hop, LinkHop):
                _check_middle(hop, text, number)
    except UsageError as error:
        raise UsageError(f"{error} (in {option} {text})", hint=error.hint) from error
    return LinkHop(_chosen(first.endpoint)), *hops[1:]


def _is_auto(endpoint: Endpoint) -> bool:
    return endpoint.kind == "serial" and endpoint.details == "auto"


def _chosen(endpoint: Endpoint) -> Endpoint:
    """The endpoint, or what it stands for on this machine."""
    if not _is_auto(endpoint):
        return endpoint
    # Only here: to know boards takes as long as starting does.
    from ockamlite.cli.run.auto import choose_port

    return choose_port(endpoint)


def _check_middle(hop: LinkHop, text: str, number: int) -> None:
    try:
        link_address(hop.endpoint)
        if _is_auto(hop.endpoint):
            raise UsageError("serial:auto is a port of this machine; name the port as its own machine does")
    except UsageError as error:
        separator = "=>" if "=>" in text else ","
        pieces = text.split(separator)
        column = sum(len(piece) + len(separator) for piece in pieces[: number - 1]) + 1
        raise TextError(str(error), column, hop=number, hint=error.hint) from error


def read_endpoint(option: str, text: str) -> Endpoint:
    """Read the endpoint that an option or argument gives.

    Raises:
        UsageError: malformed.
        UnavailableError: it is ``serial:auto``, and no port is free.
    """
    return _chosen(_parsed(option, text))


def _parsed(option: str, text: str) -> Endpoint:
    try:
        return Endpoint.parse(text)
    except UsageError as error:
        raise UsageError(f"{error} (in {option} {text})", hint=error.hint) from error


def read_portal_endpoint(option: str, text: str, *, listening: bool = False) -> Endpoint:
    """Read the endpoint that an inlet binds or an outlet dials.

    Raises:
        UsageError: malformed, or of a kind that portals do not carry.
    """
    endpoint = _parsed(option, text)
    if endpoint.kind != "tcp":
        raise UsageError(f"portals carry tcp: endpoints so far (in {option} {text})", hint="tcp:HOST:PORT")
    try:
        where = HostPort.parse(endpoint.details, allow_any_host=listening)
    except UsageError as error:
        raise UsageError(f"{error} (in {option} {text})", hint=error.hint) from error
    if not where.port and not listening:
        raise UsageError(f"nothing answers at port 0 (in {option} {text})", hint="the port of the service")
    return Endpoint("tcp", str(where))


def read_relay_name(name: str) -> str:
    """Check the name of a relay.

    Raises:
        UsageError: it cannot be one.
    """
    try:
        check_name(name)
    except ProtocolError as error:
        raise UsageError(f"--name: {error}") from error
    return name


def read_service_name(option: str, name: str) -> str:
    """Check the name of a service or a listener of ours.

    Raises:
        UsageError: it cannot be one.
    """
    try:
        NameHop(name)
    except UsageError as error:
        raise UsageError(f"{option}: {error}") from error
    if len(name.encode()) > LIMITS.address_bytes:
        raise UsageError(f"{option}: a name has at most {LIMITS.address_bytes} bytes")
    return name


def check_no_name() -> None:
    """Refuse a ``--name`` that nobody would use; one of the environment is for other commands.

    Raises:
        UsageError: there is one.
    """
    if is_flag("name"):
        raise UsageError("--name is the name at a relay, and no --relay is given", hint="--relay HOPS")


def opens_channel(hops: tuple[Hop, ...]) -> bool:
    """True if the route opens a secure channel."""
    return any(isinstance(hop, SecureHop) for hop in hops)


class PlannedWay:
    """One way to an outlet, as the options say."""

    def __init__(self, option: str, text: str, name: str | None) -> None:
        hops = read_hops(f"--{option}", text)
        if parse_hops(text) != hops:
            text = format_hops(hops)  # with the port that was chosen
        self.text = text
        self.relay_at: str | None = None
        """The hops to the relay; None without one."""
        self.relay_address: str | None = None
        to_outlet = (SecureHop(LISTENER), NameHop(OUTLET))
        match option:
            case "relay":
                if name is None:
                    raise UsageError("--relay needs --name, the name that the outlet registers there")
                self.relay_at = text
                self.relay_address = PREFIX + read_relay_name(name)
                self.hops: tuple[Hop, ...] = (*hops, NameHop(self.relay_address), *to_outlet)
            case "via":
                self.hops = (*hops, *to_outlet)
            case _:
                self.hops = hops
        channels = sum(isinstance(hop, SecureHop) for hop in self.hops)
        self.is_secure = channels > 0
        self.relay_is_known = channels > 1
        """True if a secure channel on the way tells who somebody in the middle is."""

    @property
    def shown(self) -> str:
        """``pi via tcp:relay.example:4000``: the end and the way to it."""
        if self.relay_address is not None:
            return f"{self.relay_address.removeprefix(PREFIX)} via {self.text}"
        if isinstance(self.hops[-1], NameHop) and len(self.hops) > 1:
            end = str(self.hops[-1])
            return f"{end} via {self.text.removesuffix(',' + end)}"
        return self.text


def planned_ways(name: str | None) -> list[PlannedWay]:
    """The ways that ``--relay``, ``--via`` and ``--to`` give, in the order in which they were given.

    Raises:
        UsageError: there is none, or one is malformed.
    """
    given = first_given("relay", "via", "to")
    if not given:
        raise UsageError(
            "how to get to the outlet?", hint="--relay HOPS --name NAME, --via HOPS or --to ROUTE"
        )
    if "relay" not in given:
        check_no_name()
    ordered = in_order(click.get_current_context(), list(given))
    return [PlannedWay(option, text, name) for option, text in ordered]


class PreferredWay:
    """Several paths to one outlet, all kept open; the first that is open is used.

    A :class:`ockamlite.portals.inlet.Way`.
    """

    def __init__(self, paths: list[Path], on_event: OnEvent) -> None:
        self._paths = paths
        self._on_event = on_event
        self._used = paths[0]

    @property
    def text(self) -> str:
        """The path that is used."""
        return self._used.text

    @property
    def current(self) -> Route | None:
        """The route of the best path that is open."""
        route = self._paths[0].current
        if route is not None and self._used is self._paths[0]:
            return route
        best = next((path for path in self._paths if path.current is not None), None)
        if best is None:
            return None
        if best is not self._used:
            before, self._used = self._used, best
            better = self._paths.index(best) < self._paths.index(before)
            reason = "a preferred one is open" if better else str(before.failure or "it is not open")
            self._on_event(RouteChanged(before.text, best.text, reason))
        return best.current

    async def wait(self, timeout_s: float) -> Route:
        """Wait until one of the paths is open.

        Raises:
            UnavailableError: none is within the time; says why for each.
        """
        waits = [asyncio.ensure_future(path.wait(timeout_s)) for path in self._paths]
        pending = set(waits)
        try:
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                if any(wait.exception() is None for wait in done):
                    await self._prefer(waits)
                    if (route := self.current) is not None:
                        return route
        finally:
            for wait in waits:
                wait.cancel()
            failures = await asyncio.gather(*waits, return_exceptions=True)
        raise UnavailableError("; ".join(str(e) for e in failures if isinstance(e, OckamError)))

    async def _prefer(self, waits: list[asyncio.Task[Route]]) -> None:
        """Give a better path that is still being opened for the first time a moment."""
        opening: list[asyncio.Task[Route]] = []
        for path, wait in zip(self._paths, waits, strict=True):
            if path.current is not None:
                break
            if path.failure is None and not wait.done():
                opening.append(wait)
        if opening:
            await asyncio.wait(opening, timeout=_PREFERENCE_S, return_when=asyncio.FIRST_COMPLETED)
