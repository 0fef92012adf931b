"""Paths: routes that somebody keeps open.

A path dials its first link, opens its secure channels in order, and does it again, with a jittered
back-off, whenever one of them ends. What runs over it asks for the route when it needs it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Final

from ockamlite.errors import AlreadyExistsError, OckamError, UnavailableError, UsageError
from ockamlite.routing.hops import Hop, LinkHop, NameHop, SecureHop, format_hops
from ockamlite.routing.link_hops import link_address
from ockamlite.routing.route import Route

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ockamlite.links import Link
    from ockamlite.routing.endpoint import Endpoint
    from ockamlite.secure_channels.channel import SecureChannel
    from ockamlite.secure_channels.trust import Trust

logger = logging.getLogger(__name__)

LONGEST_PAUSE_S: Final = 4.0
"""Between two tries: what returns is used again within ten seconds."""
_FIRST_PAUSE_S: Final = 0.2
_HURRIED_PAUSE_S: Final = 0.5
"""Between two tries while somebody waits: a peer that refuses is not asked in a tight loop."""


class Opened:
    """What a path has open: its links and channels, in the order they were opened."""

    def __init__(self) -> None:
        self.route = Route()
        self.parts: list[Link | SecureChannel] = []
        self.channel: SecureChannel | None = None
        """The last secure channel; its peer is whom the path leads to."""
        self.reason = ""
        """Why it was closed, if somebody said so."""

    def close(self, reason: str = "") -> None:
        """Close it all, innermost first; what lives on the last channel is told the reason."""
        self.reason = self.reason or reason
        if self.channel is not None and reason:
            self.channel.close(reason)
        for part in reversed(self.parts):
            part.close()


async def open_hops(
    hops: tuple[Hop, ...],
    *,
    connect: Callable[[Endpoint], Awaitable[Link]],
    secure: Callable[[Route, Trust], Awaitable[SecureChannel]],
    trust: Trust | None,
    relay_trust: Trust,
) -> Opened:
    """Go along ``hops``: dial the first link, open a channel at each ``secure:`` hop.

    Args:
        hops: as the user wrote them.
        connect: dials a link.
        secure: opens a channel to the listener at the end of a route.
        trust: whom the last channel may lead to.
        relay_trust: whom the channels before it may lead to.

    Raises:
        OckamError: a link or channel could not be opened; what was open is closed again.
        UsageError: the hops hold a ``secure:`` hop and nobody is trusted.
    """
    opened = Opened()
    last_secure = max((i for i, hop in enumerate(hops) if isinstance(hop, SecureHop)), default=-1)
    try:
        for number, hop in enumerate(hops):
            match hop:
                case LinkHop(endpoint) if number == 0:
                    link = await connect(endpoint)
                    opened.parts.append(link)
                    opened.route = link.route
                case LinkHop(endpoint):
                    opened.route = opened.route / link_address(endpoint)
                case SecureHop(listener):
                    whom = trust if number == last_secure else relay_trust
                    if whom is None:
                        raise UsageError("the route opens a secure channel, and nobody is trusted at its end")
                    channel = await secure(opened.route / listener, whom)
                    opened.parts.append(channel)
                    opened.channel = channel
                    opened.route = channel.route
                case NameHop():
                    opened.route = opened.route / hop.address
    except BaseException:
        opened.close()
        raise
    return opened


class Path:
    """A route kept open. Made by ``Node.path``; it begins to work when started by its node."""

    def __init__(self, hops: tuple[Hop, ...], open_once: Callable[[], Awaitable[Opened]]) -> None:
        self.hops = hops
        self.text = format_hops(hops)
        """The route as the user wrote it."""
        self.opened: Opened | None = None
        self.failure: OckamError | None = None
        """Why the last try failed; None while the path is open."""
        self._open_once = open_once
        self._changed = asyncio.Event()
        self._wanted = asyncio.Event()
        self._waiting = 0
        self._on_open: list[Callable[[Opened], None]] = []

    @property
    def current(self) -> Route | None:
        """The route, or None while there is none."""
        opened = self.opened
        if opened is None or any(part.closed.done() for part in opened.parts):
            return None
        return opened.route

    def on_open(self, callback: Callable[[Opened], None]) -> None:
        """Call ``callback`` each time the path has been opened, before anybody uses it; now, if it is."""
        self._on_open.append(callback)
        if self.opened is not None:
            callback(self.opened)

    async def wait(self, timeout_s: float, *, hurry: bool = True) -> Route:
        """Wait for the route; with ``hurry`` the pauses between tries are cut short.

        Raises:
            UnavailableError: there is none within ``timeout_s`` seconds; says why.
        """
        self._waiting += hurry
        if self._waiting:
            self._wanted.set()
        try:
            async with asyncio.timeout(timeout_s):
                while (route := self.current) is None:
                    self._changed.clear()
                    await self._changed.wait()
                return route
        except TimeoutError as error:
            reason = self._said(self.failure) if self.failure else f"not open within {timeout_s:g} s"
            raise UnavailableError(f"no way along {self.text}: {reason}") from error
        finally:
            self._waiting -= hurry
            if not self._waiting:
                self._wanted.clear()

    def drop(self, reason: str) -> None:
        """Close what is open, so that it is opened anew."""
        if self.opened is not None:
            logger.info("path %s: %s", self.text, reason)
            self.opened.close(reason)

    def flow_lost_messages(self) -> None:
        """What needs all messages ends by itself; the path goes on."""

    def flow_closed(self, reason: str) -> None:
        """Its channel says so by itself."""

    def flow_unanswered(self, *, is_silent: bool) -> None:
        """Somebody asked along the path's channel and got no answer.

        The other end may never have accepted our last handshake message: if nothing has come yet that
        proves it did, nothing is lost by a new channel.

        Args:
            is_silent: nobody else uses the channel, and its peer did not answer a question for a sign
                of life either. The channel would notice by itself, but later.
        """
        channel = self.opened.channel if self.opened is not None else None
        if channel is None:
            return
        if not channel.confirmed.done():
            self.drop("the other end may not have accepted the channel")
        elif is_silent:
            self.drop("the other end fell silent")

    def _watch(self, channel: SecureChannel) -> None:
        try:
            channel.flow.watch(self)
        except AlreadyExistsError:
            logger.debug("path %s: its channel has ended already", self.text)

    async def run(self) -> None:
        """Keep the path open until cancelled."""
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE_S
        try:
            while True:
                began = loop.time()
                try:
                    opened = await self._open_once()
                    opened_at = loop.time()
                    await self._keep(opened)
                except Exception as error:  # noqa: BLE001  (a defect below us must not cost the way for good)
                    self._failed(error)
                else:
                    if loop.time() - opened_at > LONGEST_PAUSE_S:
                        pause = _FIRST_PAUSE_S
                    began = loop.time()
                # A try that took long was a pause already.
                left = began + pause * random.uniform(0.5, 1.0) - loop.time()  # noqa: S311  (jitter)
                try:
                    async with asyncio.timeout(max(left, 0.0)):
                        await self._wanted.wait()
                except TimeoutError:
                    pause = min(2 * pause, LONGEST_PAUSE_S)
                else:
                    await asyncio.sleep(min(left, began + _HURRIED_PAUSE_S - loop.time()))
        finally:
            if self.opened is not None:
                self.opened.close()
                self.opened = None

    def _failed(self, error: Exception) -> None:
        known = (
            error if isinstance(error, OckamError) else UnavailableError(f"{type(error).__name__}: {error}")
        )
        if str(known) != str(self.failure):
            shown = None if known is error else error
            logger.warning("%s: %s; trying on", self.text, self._said(known), exc_info=shown)
        self.failure = known

    def _said(self, error: OckamError) -> str:
        """What went wrong; errors of links name an endpoint, which may be all of the path."""
        return str(error).removeprefix(f"{self.text}: ")

    async def _keep(self, opened: Opened) -> None:
        """Hold an open path until the first of its parts ends."""
        self.opened = opened
        self.failure = None
        try:
            if opened.channel is not None:
                self._watch(opened.channel)
            for callback in self._on_open:
                try:
                    callback(opened)
                except Exception:  # what one of them cannot do must not cost the others their way
                    logger.exception("path %s: what is done with it once it is open failed", self.text)
            self._changed.set()
            if opened.parts:
                await asyncio.wait(
                    [part.closed for part in opened.parts], return_when=asyncio.FIRST_COMPLETED
                )
            else:
                await asyncio.Future()
            ended = next(part for part in opened.parts if part.closed.done())
            logger.warning("path %s lost: %s", self.text, opened.reason or ended.closed.result())
        finally:
            self.opened = None
            opened.close()
