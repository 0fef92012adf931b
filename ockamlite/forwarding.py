"""Links that a message asks for on its way: dialled only where this node was told to allow it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Final

from ockamlite.errors import NotFoundError, OckamError, UsageError
from ockamlite.routing.address import BLE, TCP, UDP, UNIX, WEBSOCKET, Address
from ockamlite.routing.endpoint import Endpoint
from ockamlite.routing.message import Flow, Message
from ockamlite.routing.route import Route

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

    from ockamlite.limits import Limits
    from ockamlite.links import Link
    from ockamlite.routing.router import Router
    from ockamlite.wire.gate import Gate

logger = logging.getLogger(__name__)

_KINDS: Final = {TCP: "tcp", UDP: "udp", WEBSOCKET: "websocket", BLE: "ble", UNIX: "unix"}
_WAITING: Final = 32
"""Messages kept while their link is dialled; a handshake sends one."""
_WAITING_BYTES: Final = 256 * 1024
"""Bytes of them for one link."""
_LINKS: Final = 64
"""Links dialled for others at a time."""
_REFUSE_S: Final = 1.0
"""Between two tries to dial the same link: a flood must not become one of ours."""


class Forwarder:
    """Sends messages whose next hop is ``1#host:port`` over a link to there, which it dials itself.

    The way back is open to what comes by that link; nothing else of the node is.
    """

    def __init__(
        self,
        router: Router,
        limits: Limits,
        connect: Callable[[Endpoint], Awaitable[Link]],
        spawn: Callable[[Coroutine[object, object, None], str], None],
    ) -> None:
        self._router = router
        self._limits = limits
        self._connect = connect
        self._spawn = spawn
        self._allowed: set[tuple[str, str]] = set()
        self._links: dict[Address, Link] = {}
        self._waiting: dict[Address, deque[Message]] = {}
        self._refused = 0

    def allow(self, rules: Iterable[str]) -> None:
        """Allow a kind of link, or one endpoint.

        Raises:
            UsageError: neither.
        """
        for rule in rules:
            kind, _, details = rule.partition(":")
            if kind not in _KINDS.values():
                raise UsageError(f"--forward {rule}: known kinds are {', '.join(sorted(_KINDS.values()))}")
            self._allowed.add((kind, Endpoint.parse(rule).details if details else ""))

    def forward(self, message: Message) -> Gate | None:
        """Send ``message`` over the link that its next hop names; a handler for the router."""
        target = message.onward[0]
        link = self._links.get(target)
        if link is not None:
            return self._send(link, message)
        waiting = self._waiting.get(target)
        if waiting is None:
            endpoint = self._endpoint(target)
            if endpoint is None or len(self._links) + len(self._waiting) >= _LINKS:
                self._refused += 1
                if self._refused & (self._refused - 1) == 0:
                    # Powers of two: a flood of them must not become a flood of log lines.
                    why = "not allowed here" if endpoint is None else f"{_LINKS} links are dialled already"
                    logger.info("message for %s not forwarded: %s (%d so far)", target, why, self._refused)
                return None
            waiting = self._waiting[target] = deque()
            self._spawn(self._dial(target, endpoint), f"forwarding to {endpoint}")
        size = sum(len(known.payload) for known in waiting) + len(message.payload)
        if len(waiting) < _WAITING and size <= _WAITING_BYTES:
            waiting.append(message._replace(payload=bytes(message.payload)))
        return None

    def _endpoint(self, target: Address) -> Endpoint | None:
        kind = _KINDS.get(target.transport)
        try:
            details = target.body.decode()
            if kind is not None and {(kind, ""), (kind, details)} & self._allowed:
                return Endpoint(kind, details)
        except (UnicodeDecodeError, UsageError):
            pass
        return None

    async def _dial(self, target: Address, endpoint: Endpoint) -> None:
        loop = asyncio.get_running_loop()
        not_before = loop.time() + _REFUSE_S
        try:
            link = await self._connect(endpoint)
        except OckamError as error:
            logger.warning("cannot forward to %s: %s", endpoint, error)
            not_before = loop.time() + _REFUSE_S
        else:
            await self._serve(target, link)
        # What comes meanwhile waits for nothing, and is forgotten.
        self._waiting.setdefault(target, deque())
        await asyncio.sleep(not_before - loop.time())
        del self._waiting[target]

    async def _serve(self, target: Address, link: Link) -> None:
        """Send over ``link`` what has waited and what comes, until it ends."""
        self._links[target] = link
        try:
            for message in self._waiting.pop(target, ()):
                self._send(link, message)
        except NotFoundError as error:
            logger.info("link to %s has ended already: %s", link.endpoint, error)
        await asyncio.wait([link.closed])
        del self._links[target]

    def _send(self, link: Link, message: Message) -> Gate | None:
        flow: Flow | None = message.flow
        back = flow.address if flow is not None and flow.closed is None else None
        if back is not None and back not in link.flow.consumers:
            self._router.open(back, (link.flow,))
            self._router.open(link.address, (flow,))
        onward = Route((link.address, *message.onward[1:]))
        return self._router.deliver(Message(onward, message.return_route, message.payload))
