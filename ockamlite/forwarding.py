"""Links that a message asks for on its way: dialled only where this node was told to allow it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Final

from ockamlite.errors import AlreadyExistsError, NotFoundError, OckamError, UsageError
from ockamlite.routing.endpoint import Endpoint
from ockamlite.routing.link_hops import TYPES, asked_endpoint
from ockamlite.routing.message import Flow, Message
from ockamlite.routing.route import Route
from ockamlite.routing.tally import Tallies, Tally

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

    from ockamlite.limits import Limits
    from ockamlite.links import Link
    from ockamlite.routing.address import Address
    from ockamlite.routing.router import Router
    from ockamlite.wire.gate import Gate

logger = logging.getLogger(__name__)

_WAITING: Final = 32
"""Messages kept while their link is dialled; a handshake sends one."""
_WAITING_BYTES: Final = 256 * 1024
"""Bytes of them for one link."""
_LINKS: Final = 64
"""Links dialled for others at a time."""
_LINKS_PER_SOURCE: Final = 8
"""Of them for one flow, so that it cannot keep the others from theirs."""
_IDLE_S: Final = 60.0
"""How long such a link may carry nothing."""
_SPARE_S: Final = 10.0
"""The same when all places are taken: a channel that lives says something every seven seconds."""
_REFUSE_S: Final = 1.0
"""Between two tries to dial the same link: a flood must not become one of ours."""


class _Source:
    """A flow whose messages are forwarded. The answers come to an address that stands for it."""

    def __init__(self, flow: Flow, router: Router, forwarder: Forwarder) -> None:
        self.flow = flow
        self.dialled = 0
        """Links dialled, or being dialled, because of its messages."""
        self._forwarder = forwarder
        flow.watch(self)
        self.address = router.add_random(self._answered, flow=flow)

    def flow_lost_messages(self) -> None:
        """Forwarding promises no order."""

    def flow_closed(self, reason: str) -> None:
        """Nobody is there any more to get answers."""
        self._forwarder.forget(self)

    def _answered(self, message: Message) -> Gate | None:
        return self._forwarder.answer(self, message)


class _Dialled:
    """A link dialled for others: who uses it, and when it carried something last."""

    __slots__ = ("link", "target", "used_at", "users")

    def __init__(self, target: Address, link: Link, now: float) -> None:
        self.target = target
        self.link = link
        self.used_at = now
        self.users: set[_Source] = set()


class Forwarder:
    """Sends messages whose next hop is ``1#host:port`` over a link to there, which it dials itself.

    The way back is open to what comes by that link; nothing else of the node is. A link ends when
    nobody uses it any more.
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
        self._allowed: dict[tuple[str, str], Endpoint | None] = {}
        """By kind and details; details are empty where the whole kind is allowed."""
        self._links: dict[Address, _Dialled] = {}
        self._by_address: dict[Address, _Dialled] = {}
        self._sources: dict[Flow, _Source] = {}
        self._waiting: dict[Address, deque[Message]] = {}
        self._refused = Tally()
        self._failed = Tallies()
        self._unsent = Tallies()
        self._loop = asyncio.get_running_loop()

    def allow(self, rules: Iterable[str]) -> None:
        """Allow a kind of link, or one endpoint; an endpoint's options are those it is dialled with.

        Raises:
            UsageError: neither.
        """
        for rule in rules:
            kind, _, details = rule.partition(":")
            if kind not in TYPES:
                raise UsageError(f"--forward {rule}: known kinds are {', '.join(sorted(TYPES))}")
            endpoint = Endpoint.parse(rule) if details else None
            self._allowed[kind, endpoint.details if endpoint is not None else ""] = endpoint

    def forward(self, message: Message) -> Gate | None:
        """Send ``message`` over the link that its next hop names; a handler for the router."""
        target = message.onward[0]
        dialled = self._links.get(target)
        if dialled is not None:
            return self._send(dialled, message)
        waiting = self._waiting.get(target)
        if waiting is None:
            endpoint = self._endpoint(target)
            why = "not allowed here" if endpoint is None else self._no_room(message.flow)
            if endpoint is None or why:
                if self._refused.add():
                    so_far = self._refused.count
                    logger.info("message for %s not forwarded: %s (%d so far)", target, why, so_far)
                return None
            waiting = self._waiting[target] = deque()
            source = self._source(message.flow)
            if source is not None:
                source.dialled += 1
            self._spawn(self._dial(target, endpoint, source), f"forwarding to {endpoint}")
        size = sum(len(known.payload) for known in waiting) + len(message.payload)
        if len(waiting) < _WAITING and size <= _WAITING_BYTES:
            waiting.append(message._replace(payload=bytes(message.payload)))
        else:
            self._lost(target, 1)
        return None

    def answer(self, source: _Source, message: Message) -> Gate | None:
        """Hand on what came back for ``source``, in whose view it comes from the hop that it wrote."""
        onward, back, payload, _ = message
        dialled = self._by_address.get(back[0])
        if dialled is not None:
            dialled.used_at = self._loop.time()
            back = Route((dialled.target, *back[1:]))
        address = source.flow.address
        if address is None:
            return None
        return self._router.deliver(Message(Route((address, *onward[1:])), back, payload))

    def forget(self, source: _Source) -> None:
        """Close the links that only ``source`` used."""
        self._sources.pop(source.flow, None)
        self._router.remove(source.address)
        for dialled in tuple(self._links.values()):
            if source in dialled.users:
                dialled.users.discard(source)
                if not dialled.users:
                    self._end(dialled)

    def _source(self, flow: Flow | None) -> _Source | None:
        if flow is None or flow.address is None:
            return None
        known = self._sources.get(flow)
        if known is None:
            try:
                known = self._sources[flow] = _Source(flow, self._router, self)
            except AlreadyExistsError:
                return None  # it has ended; who would get the answers?
        return known

    def _no_room(self, flow: Flow | None) -> str:
        """Why no link can be dialled because of ``flow``; empty if one can."""
        source = self._sources.get(flow) if flow is not None else None
        if source is not None and source.dialled >= _LINKS_PER_SOURCE:
            return f"{_LINKS_PER_SOURCE} links are dialled for this peer already"
        if len(self._links) + len(self._waiting) < _LINKS:
            return ""
        spare = min(self._links.values(), key=lambda dialled: dialled.used_at, default=None)
        if spare is None or self._loop.time() - spare.used_at < _SPARE_S:
            return f"{_LINKS} links are dialled already"
        self._end(spare)
        return ""

    def _end(self, dialled: _Dialled) -> None:
        """Close a link; what comes for its target from now on asks for a new one."""
        dialled.link.close()
        if self._links.get(dialled.target) is dialled:
            del self._links[dialled.target]

    def _endpoint(self, target: Address) -> Endpoint | None:
        """What to dial for ``target``; None if that is not allowed."""
        asked = asked_endpoint(target)
        if asked is None:
            return None
        rule = self._allowed.get((asked.kind, asked.details))
        if rule is not None and rule.options and asked.options in ((), rule.options):
            return rule
        if (rule is not None and not rule.options) or (asked.kind, "") in self._allowed:
            return asked
        return None

    def _lost(self, target: Address, messages: int) -> None:
        """Say that messages were not forwarded: who sent them hears nothing of it."""
        so_far = max((self._unsent.add(target) for _ in range(messages)), default=0)
        if so_far:
            logger.info("messages for %s lost, as no link takes them (%d so far)", target, so_far)

    async def _dial(self, target: Address, endpoint: Endpoint, source: _Source | None) -> None:
        loop = self._loop
        not_before = loop.time() + _REFUSE_S
        try:
            link = await self._connect(endpoint)
        except OckamError as error:
            if count := self._failed.add(target):
                logger.warning("cannot forward to %s: %s (%d so far)", endpoint, error, count)
            not_before = loop.time() + _REFUSE_S
            self._lost(target, len(self._waiting.pop(target)))
        else:
            await self._serve(target, link, source)
        finally:
            if source is not None:
                source.dialled -= 1
        if target in self._links or target in self._waiting:
            return  # it gave up its place, and was dialled anew meanwhile
        # What comes meanwhile waits for nothing, and is forgotten.
        self._waiting[target] = deque()
        await asyncio.sleep(not_before - loop.time())
        self._lost(target, len(self._waiting.pop(target)))

    async def _serve(self, target: Address, link: Link, source: _Source | None) -> None:
        """Send over ``link`` what has waited and what comes, until it ends or is of use to nobody."""
        dialled = _Dialled(target, link, self._loop.time())
        self._links[target] = self._by_address[link.address] = dialled
        try:
            for message in self._waiting.pop(target, ()):
                self._send(dialled, message)
        except NotFoundError as error:
            logger.debug("link to %s has ended already: %s", link.endpoint, error)
        if source is not None and not dialled.users:
            self._end(dialled)  # who wanted it has gone meanwhile
        while not link.closed.done():
            left_s = dialled.used_at + _IDLE_S - self._loop.time()
            if left_s <= 0:
                logger.debug("link to %s carried nothing for %g s", link.endpoint, _IDLE_S)
                self._end(dialled)
            await asyncio.wait([link.closed], timeout=left_s if left_s > 0 else None)
        del self._by_address[link.address]
        self._end(dialled)

    def _send(self, dialled: _Dialled, message: Message) -> Gate | None:
        link = dialled.link
        dialled.used_at = self._loop.time()
        onward, back, payload, flow = message
        if flow is not None and flow.closed is not None:
            return None
        source = self._source(flow)
        if source is not None and back and back[0] == source.flow.address:
            dialled.users.add(source)
            if source.address not in link.flow.consumers:
                self._router.open(source.address, (link.flow,))
            back = Route((source.address, *back[1:]))
        return self._router.deliver(Message(Route((link.address, *onward[1:])), back, payload))
