"""Where a message goes next: the table of a node's addresses and the rules in front of it.

No I/O and no tasks: ``deliver`` calls the handler of the next hop directly, which is how a message
crosses a relay or a channel without a queue in between.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeAlias

from ockamlite.errors import AlreadyExistsError, NotFoundError
from ockamlite.routing.address import Address, random_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ockamlite.routing.message import Flow, Message
    from ockamlite.wire.gate import Gate

logger = logging.getLogger(__name__)

Handler: TypeAlias = "Callable[[Message], Gate | None]"
AccessControl: TypeAlias = "Callable[[Message], bool]"


class _Entry:
    __slots__ = ("allowed", "flow", "flows", "handler")

    def __init__(self, handler: Handler, allowed: AccessControl | None, flow: Flow | None) -> None:
        self.handler = handler
        self.allowed = allowed
        self.flow = flow
        self.flows: set[Flow] = set()


class Router:
    """The addresses of one node.

    A message of a flow (it came over a link or out of a channel) that is not let through is dropped
    and counted, as in Ockam: nothing is reported to the sender. A message of a local sender raises.
    """

    def __init__(self) -> None:
        self._table: dict[Address, _Entry] = {}
        self.forward: Handler | None = None
        """Takes messages whose next hop is a link to be dialled, ``1#host:port``; None refuses them."""
        self.reading = False
        """True while a message that a link brought is handed on: its sender waits for no gate of ours."""
        self.excess_bytes = 0
        """What links have brought for links that are full, and have still to take it."""
        self.dropped = 0
        """Messages of flows that reached nobody."""

    def __contains__(self, address: Address) -> bool:
        """True if a worker has this address."""
        return address in self._table

    def __len__(self) -> int:
        """How many addresses there are."""
        return len(self._table)

    def add(
        self,
        address: Address,
        handler: Handler,
        *,
        allowed: AccessControl | None = None,
        flow: Flow | None = None,
    ) -> None:
        """Give ``address`` to ``handler``.

        Args:
            address: a local address.
            handler: called for each message; gets it with ``address`` still in front.
            allowed: incoming access control; None lets every message through that the flow may bring.
            flow: for the sender of a link or the encryptor of a channel: its flow.

        Raises:
            AlreadyExistsError: the address is taken.
        """
        if address in self._table:
            raise AlreadyExistsError(f"address {address.name} is taken")
        self._table[address] = _Entry(handler, allowed, flow)

    def add_random(self, handler: Handler, *, flow: Flow | None = None) -> Address:
        """Give a fresh address, which nobody can guess, to ``handler``."""
        address = random_address()
        self.add(address, handler, flow=flow)
        return address

    def remove(self, address: Address) -> None:
        """Forget an address and every permission to reach it; an unknown one is no error."""
        entry = self._table.pop(address, None)
        if entry is not None:
            for flow in entry.flows:
                flow.consumers.discard(address)

    def open(self, address: Address, flows: Iterable[Flow | None]) -> None:
        """Let the messages of ``flows`` reach ``address``.

        Raises:
            NotFoundError: nobody has the address.
        """
        entry = self._table.get(address)
        if entry is None:
            raise NotFoundError(f"no worker at {address.name}")
        for flow in flows:
            if flow is not None and flow.closed is None:
                flow.consumers.add(address)
                if len(entry.flows) > 64:
                    entry.flows = {f for f in entry.flows if f.closed is None}
                entry.flows.add(flow)

    def flow_of(self, address: Address) -> Flow | None:
        """The flow behind the sender of a link or the encryptor of a channel; else None."""
        entry = self._table.get(address)
        return entry.flow if entry is not None else None

    def deliver(self, message: Message) -> Gate | None:
        """Hand a message to its next hop.

        Returns:
            A gate to wait for before sending more on the same way, or None.

        Raises:
            NotFoundError: no such hop, for a message made in this node.
        """
        onward, _, _, flow = message
        if not onward:
            if flow is None:
                raise NotFoundError("a message with an empty route has nowhere to go")
            return None
        address = onward[0]
        entry = self._table.get(address)
        if entry is None:
            if address.transport and self.forward is not None:
                return self.forward(message)
            self._undelivered(message, "no worker there")
            return None
        if flow is not None:
            if address not in flow.consumers and not flow.reaches(address):
                self._undelivered(message, "not opened to this flow")
                return None
            if entry.allowed is not None and not entry.allowed(message):
                self._undelivered(message, "refused by its access control")
                return None
        return entry.handler(message)

    def _undelivered(self, message: Message, reason: str) -> None:
        address = message.onward[0]
        if message.flow is None:
            raise NotFoundError(f"cannot deliver to {address}: {reason}")
        self.dropped += 1
        if self.dropped & (self.dropped - 1) == 0:
            # Powers of two: a flood of bad addresses must not become a flood of log lines.
            logger.info(
                "message from %s to %s dropped: %s (%d so far)",
                message.flow.name, address, reason, self.dropped,
            )  # fmt: skip
