"""What happens in a node that an operator wants to know; the command prints these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """A connection through a portal reached its target."""

    kind: ClassVar[str] = "session-open"
    session: int
    peer: str | None
    """Identifier of the node at the other end; None without a secure channel."""
    route: str
    client: str | None = None
    """At an inlet: the client's address."""
    target: str | None = None
    """At an outlet: where it connected to."""


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """A connection through a portal ended."""

    kind: ClassVar[str] = "session-close"
    session: int
    peer: str | None
    sent_bytes: int
    """Bytes this end's application sent into the portal."""
    received_bytes: int
    """Bytes this end's application was given."""
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Somebody was refused."""

    kind: ClassVar[str] = "refused"
    peer: str | None
    at: str
    reason: str


@dataclass(frozen=True, slots=True)
class LinkUp:
    """A link works."""

    kind: ClassVar[str] = "link-up"
    link: str
    remote: str
    reason: None = None


@dataclass(frozen=True, slots=True)
class LinkDown:
    """A link ended."""

    kind: ClassVar[str] = "link-down"
    link: str
    remote: str
    reason: str


@dataclass(frozen=True, slots=True)
class RelayRegistered:
    """A relay answered a registration."""

    kind: ClassVar[str] = "relay-registered"
    at: str
    address: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class RelayLost:
    """A registration no longer holds; its owner registers anew."""

    kind: ClassVar[str] = "relay-lost"
    at: str
    address: str
    reason: str


@dataclass(frozen=True, slots=True)
class RouteChanged:
    """What goes to a peer takes another route."""

    kind: ClassVar[str] = "route-changed"
    from_route: str
    to_route: str
    reason: str


Event: TypeAlias = (
    SessionOpened | SessionClosed | Refused | LinkUp | LinkDown | RelayRegistered | RelayLost | RouteChanged
)
OnEvent: TypeAlias = Callable[[Event], None]
