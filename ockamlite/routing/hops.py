"""Paths as people write them: ``ble:pi-cabinet,tcp:10.0.0.7:4000,secure:listener,outlet``.

Hops are not yet addresses: a link must be dialled and a channel opened first. Reading also understands
what people paste from Ockam, a MultiAddr and ``1#host:4000 => 0#outlet``; printing has one form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from ockamlite.errors import UsageError
from ockamlite.limits import LIMITS
from ockamlite.routing.address import SERIAL, Address
from ockamlite.routing.endpoint import (
    BARE_KINDS,
    KNOWN_KINDS,
    KNOWN_OPTIONS,
    Endpoint,
    TextError,
    escape,
    is_utf8,
    kind_of,
    unescape,
    unescape_text,
)
from ockamlite.routing.link_hops import KINDS
from ockamlite.routing.multiaddr import HOSTS, MultiAddr, Part, Protocol, scan_multiaddr

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

SECURE: Final = "secure"

_TYPED: Final = re.compile(r"([0-9]+)#")


@dataclass(frozen=True, slots=True)
class LinkHop:
    """Go over a link to the next node."""

    endpoint: Endpoint

    def __str__(self) -> str:
        return str(self.endpoint)


@dataclass(frozen=True, slots=True)
class SecureHop:
    """Here, open a secure channel to the listener of this name.

    Raises:
        UsageError: the name is empty or has no UTF-8.
    """

    listener: str

    def __post_init__(self) -> None:
        if not self.listener or not is_utf8(self.listener):
            raise UsageError("a secure channel listener needs a name in UTF-8")

    def __str__(self) -> str:
        return f"secure:{escape(self.listener.encode(), ',: ')}"


@dataclass(frozen=True, slots=True, init=False)
class NameHop:
    """A worker of the node that the message has reached, by its local address.

    Raises:
        UsageError: the name is empty or has no UTF-8.
    """

    name: bytes

    def __init__(self, name: bytes | str) -> None:
        if not name or (isinstance(name, str) and not is_utf8(name)):
            raise UsageError("a worker needs a name, as bytes or in UTF-8")
        object.__setattr__(self, "name", name.encode() if isinstance(name, str) else bytes(name))

    @property
    def address(self) -> Address:
        """The local address."""
        return Address.local(self.name)

    def __str__(self) -> str:
        text = escape(self.name, ",:")
        # What would be read as a MultiAddr, as Ockam's form of an address or as a link keeps a sign of it.
        if text.startswith("/") or text.partition("?")[0] in BARE_KINDS:
            return f"%{ord(text[0]):02X}{text[1:]}"
        return _TYPED.sub(r"\1%23", text, count=1) if _TYPED.match(text) else text


Hop: TypeAlias = LinkHop | SecureHop | NameHop


def parse_hops(
    text: str,
    *,
    kinds: Collection[str] = KNOWN_KINDS,
    options: Mapping[str, Collection[str]] = KNOWN_OPTIONS,
) -> tuple[Hop, ...]:
    """Read a path in any of the three forms.

    Args:
        text: at least one hop.
        kinds: the kinds of link that are known.
        options: the options that are known, by kind.

    Raises:
        TextError: ``route hop 2, column 17: …``, both counted from 1 in the text as given.
    """
    if not text.strip():
        raise TextError("the route is empty", 1, hop=1)
    if text.startswith("/"):
        return _multiaddr_hops(text)
    separator = "=>" if "=>" in text else ","
    hops: list[Hop] = []
    column = 1
    for number, piece in enumerate(text.split(separator), 1):
        if number > LIMITS.route_hops:
            raise TextError(f"a route has at most {LIMITS.route_hops} hops", column, hop=number)
        start = column
        written = piece
        if separator == "=>":  # Ockam puts blanks around its arrows; next to a comma they are refused
            written = piece.strip()
            start += piece.find(written)
        try:
            hops.append(_hop(written, start, kinds, options))
        except TextError as error:
            raise TextError(error.reason, error.column, hop=number, hint=error.hint) from error
        except UsageError as error:
            raise TextError(str(error), start, hop=number) from error
        column += len(piece) + len(separator)
    return tuple(hops)


def format_hops(hops: Iterable[Hop]) -> str:
    """The text that :func:`parse_hops` reads back as the same hops."""
    return ",".join(map(str, hops))


def _hop(text: str, column: int, kinds: Collection[str], options: Mapping[str, Collection[str]]) -> Hop:
    if not text:
        raise TextError("the hop is empty", column)
    if _TYPED.match(text):
        return _ockam_hop(text, column, kinds, options)
    kind = kind_of(text)
    if kind == SECURE:
        start = len(SECURE) + 1
        listener = unescape_text(text[start:], ",:", column + start)
        if not listener:
            raise TextError("'secure:' is followed by the name of a listener", column + start)
        return SecureHop(listener)
    if kind in kinds:
        return LinkHop(Endpoint.parse_at(text, column, kinds=kinds, options=options))
    if ":" in text:
        known = ", ".join([*sorted(kinds), SECURE])
        raise TextError(
            f"unknown kind {kind!r}; known kinds: {known}", column, hint="a colon in a name is written %3A"
        )
    return NameHop(unescape(text, ",:", column))


def _ockam_hop(text: str, column: int, kinds: Collection[str], options: Mapping[str, Collection[str]]) -> Hop:
    """A hop in Ockam's text form, which knows no escapes; but that of a serial line, which is ours."""
    address = Address.parse(text)
    if address.is_local:
        return NameHop(address.body)
    kind = KINDS.get(address.transport)
    if kind is None or kind not in kinds:
        listed = ", ".join(f"{n} ({name})" for n, name in KINDS.items() if name in kinds)
        raise UsageError(f"unknown transport type {address.transport}; known types: 0 (local), {listed}")
    if address.transport == SERIAL:
        body = text.partition("#")[2]
        before = len(text) - len(body) - len(kind) - 1  # for columns in the text as given
        return LinkHop(Endpoint.parse_at(f"{kind}:{body}", column + before, kinds=kinds, options=options))
    return LinkHop(Endpoint(kind, address.name))


def to_hops(address: MultiAddr) -> tuple[Hop, ...]:
    """The hops that a MultiAddr describes; columns in errors are those of its printed form.

    Raises:
        TextError: it names a node, project or space, which are looked up in Ockam's state and mean
            nothing here; a host without a port or the reverse; an empty name.
    """
    return _multiaddr_hops(str(address))


def _multiaddr_hops(text: str) -> tuple[Hop, ...]:
    hops: list[Hop] = []
    host: Part | None = None
    for part, column in scan_multiaddr(text):
        try:
            if part.protocol in HOSTS and host is None:
                host = part
            else:
                hops.append(_multiaddr_hop(host, part))
                host = None
        except UsageError as error:
            raise TextError(str(error), column, hop=len(hops) + 1) from error
    if host is not None:
        raise TextError(f"no tcp or udp port follows {host}", len(text) + 1, hop=len(hops) + 1)
    return tuple(hops)


def _multiaddr_hop(host: Part | None, part: Part) -> Hop:
    """The hop of a part and of the host before it, if there is one."""
    match host, part.protocol:
        case Part(), Protocol.TCP | Protocol.UDP:
            name = f"[{host.value}]" if host.protocol is Protocol.IP6 else host.value
            return LinkHop(Endpoint(part.protocol.text, f"{name}:{part.value}"))
        case Part(), _:
            raise UsageError(f"no tcp or udp port follows {host}")
        case None, Protocol.SECURE:
            return SecureHop(part.value)
        case None, Protocol.SERVICE | Protocol.WORKER:
            return NameHop(part.value)
        case None, Protocol.NODE | Protocol.PROJECT | Protocol.SPACE:
            raise UsageError(f"{part} is looked up in the state of Ockam's command line; write host and port")
        case _:
            raise UsageError(f"no host stands before {part}")
