"""Routes: the addresses a message visits, next hop first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ockamlite.errors import UsageError
from ockamlite.routing.address import Address

if TYPE_CHECKING:
    from collections.abc import Iterable


class Route(tuple[Address, ...]):
    """An immutable list of addresses; index 0 is the next hop.

    ``route / "echo"`` appends a hop, ``Route.of("a", "b")`` builds one from names.
    """

    __slots__ = ()

    @classmethod
    def of(cls, *hops: Address | str | Iterable[Address]) -> Route:
        """Build a route from names, addresses and other routes, in order."""
        found: list[Address] = []
        for hop in hops:
            if isinstance(hop, Address):
                found.append(hop)
            elif isinstance(hop, str):
                found.append(Address.local(hop))
            else:
                found.extend(hop)
        return cls(found)

    @classmethod
    def parse(cls, text: str) -> Route:
        """Read Ockam's text form, ``0#a => 1#host:port => 0#b``.

        Raises:
            UsageError: the text is empty or an address in it is malformed.
        """
        if not text.strip():
            raise UsageError("an empty text is no route")
        return cls(Address.parse(piece.strip()) for piece in text.split("=>"))

    def __truediv__(self, hop: Address | str | Route) -> Route:
        """Append a hop or a route."""
        return Route.of(self, hop)

    @property
    def rest(self) -> Route:
        """The route without its first hop."""
        return Route(self[1:])

    def __str__(self) -> str:
        """Ockam's text form."""
        return " => ".join(str(hop) for hop in self)


EMPTY_ROUTE = Route()
