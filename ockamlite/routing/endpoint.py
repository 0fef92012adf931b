"""Endpoints, ``tcp:host:4000`` or ``serial:/dev/ttyUSB0?baud=9600``, and host:port pairs, as text.

Whether a transport of some kind is installed is not known here.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote_from_bytes

from ockamlite.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

KNOWN_KINDS: Final = (
    "tcp",
    "udp",
    "serial",
    "ble",
    "pty",
    "unix",
    "stdio",
    "websocket",
    "mqtt",
    "memory",
)
"""The kinds of link the grammar knows."""

BARE_KINDS: Final = frozenset({"stdio"})
"""Kinds of which there is one only, written without details."""

KNOWN_OPTIONS: Final[Mapping[str, Collection[str]]] = {
    "serial": ("baud", "bits", "parity", "stop", "flow", "rtscts"),
    "ble": ("adapter", "hci"),
    "udp": ("dialect",),
}
"""The options of each kind of endpoint; a kind that is not here has none."""

_HOST_PORT_KINDS: Final = frozenset({"tcp", "udp"})
_KIND: Final = re.compile(r"[a-z][a-z0-9_-]*")
_LABEL: Final = re.compile(r"[A-Za-z0-9_-]{1,63}")
_INTERFACE: Final = re.compile(r"[!-$&-.0-Z^-~]{1,15}")  # what Linux allows, but for brackets
_DIGITS: Final = re.compile(r"[0-9A-Fa-f]{2}")
_PRINTABLE: Final = "".join(map(chr, range(0x21, 0x7F)))


class TextError(UsageError):
    """A text that cannot be read, and where.

    Attributes:
        reason: what is wrong.
        column: where, counted from 1.
        hop: in which hop of a route, counted from 1; 0 outside a route.
    """

    def __init__(self, reason: str, column: int, *, hop: int = 0, hint: str = "") -> None:
        place = f"route hop {hop}" if hop else "endpoint"
        super().__init__(f"{place}, column {column}: {reason}", hint=hint)
        self.reason = reason
        self.column = column
        self.hop = hop


def escape(data: bytes, reserved: str) -> str:
    """Percent-encode the reserved characters and whatever is not printable ASCII.

    The percent sign is always reserved. So is the end of ``=>``, which would part two hops.
    """
    safe = "".join(sorted(set(_PRINTABLE) - {"%", *reserved}))
    return quote_from_bytes(data, safe).replace("=>", "=%3E")


def unescape(text: str, reserved: str, column: int) -> bytes:
    """Undo :func:`escape`; ``column`` is where the text stands.

    Raises:
        TextError: a bad escape, a reserved character, or a space or control character left as it is.
    """
    out = bytearray()
    at = 0
    while at < len(text):
        character = text[at]
        if character == "%":
            digits = text[at + 1 : at + 3]
            if not _DIGITS.fullmatch(digits):
                raise TextError(
                    "'%' is not followed by two hex digits", column + at, hint="'%' is written %25"
                )
            out.append(int(digits, 16))
            at += 3
            continue
        if character in reserved or not character.isprintable() or character.isspace():
            if "\ud800" <= character <= "\udfff":
                raise TextError("the text is not UTF-8", column + at)
            written = escape(character.encode(), _PRINTABLE)
            raise TextError(f"{character!r} must be written {written}", column + at)
        out += character.encode()
        at += 1
    return bytes(out)


def unescape_text(text: str, reserved: str, column: int) -> str:
    """Undo :func:`escape` where the bytes are text.

    Raises:
        TextError: as for :func:`unescape`, or the bytes are not UTF-8.
    """
    try:
        return unescape(text, reserved, column).decode()
    except UnicodeDecodeError as error:
        raise TextError("the bytes that the escapes name are not UTF-8", column) from error


@dataclass(frozen=True, slots=True)
class HostPort:
    """A host name or IP address (IPv6 without brackets), and a port.

    Raises:
        UsageError: the host is none, or the port is not 0 to 65535.
    """

    host: str
    port: int

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 0xFFFF:
            raise UsageError(f"port {self.port} is not 0 to 65535")
        if ":" in self.host:
            _ip6(self.host)
        elif len(self.host) > 253 or not all(_LABEL.fullmatch(label) for label in self.host.split(".")):
            raise UsageError(f"{self.host!r} is no host name")
        elif self.host.startswith("-") or self.host.endswith("-"):
            raise UsageError(f"{self.host!r} is no host name: it begins or ends with '-'")

    @classmethod
    def parse(cls, text: str, *, allow_any_host: bool = False) -> HostPort:
        """Read ``host:port``, ``[v6]:port``, or ``:port`` or ``port`` of 127.0.0.1.

        Args:
            text: what to read.
            allow_any_host: also take 0.0.0.0 and [::], which only a listener can use.

        Raises:
            UsageError: none of these.
        """
        host, _, digits = text.rpartition(":")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 5):
            raise UsageError(f"{text!r} does not end in a port")
        if host.startswith("[") and host.endswith("]"):
            host = _ip6(host[1:-1])
        elif ":" in host:
            raise UsageError(f"{host!r} is no host name; an IPv6 address stands in brackets")
        found = cls(host or "127.0.0.1", int(digits))
        if found.is_any_host and not allow_any_host:
            raise UsageError(f"{host} stands for every address of this machine; name one of them")
        return found

    @property
    def is_any_host(self) -> bool:
        """True for 0.0.0.0 and ``::``."""
        return self.host in ("0.0.0.0", "::")  # noqa: S104

    def __str__(self) -> str:
        return host_port_text(self.host, self.port)


def host_port_text(host: str, port: int) -> str:
    """``host:port``, an IPv6 address in brackets; for what the system says, which needs no checking."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _ip6(text: str) -> str:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no IPv6 address") from error
    if address.scope_id is not None and not _INTERFACE.fullmatch(address.scope_id):
        raise UsageError(f"{text!r} names no network interface")
    return ip6_text(address)


def ip6_text(address: ipaddress.IPv6Address) -> str:
    """The shortest text of an address; one that wraps an IPv4 address shows it, as Rust prints it."""
    return f"::ffff:{address.ipv4_mapped}" if address.ipv4_mapped else str(address)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a link, ``KIND:DETAILS?OPTION=VALUE&…``.

    Raises:
        UsageError: the parts could not be printed and read back, or are no host and port where the
            kind needs them.
    """

    kind: str
    details: str
    options: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if not _KIND.fullmatch(self.kind):
            raise UsageError(f"{self.kind!r} is no kind of endpoint")
        if (self.kind in BARE_KINDS) != (self.details == ""):
            raise UsageError(
                f"{self.kind} {'takes no' if self.details else 'needs'} details behind the colon"
            )
        if self.kind in _HOST_PORT_KINDS:
            HostPort.parse(self.details, allow_any_host=True)
        names = [name for name, _ in self.options]
        if "" in names or len(set(names)) != len(names):
            raise UsageError(f"the options of a {self.kind} endpoint have no name, or the same twice")
        for text in (self.details, *(part for option in self.options for part in option)):
            if not is_utf8(text):
                raise UsageError(f"a part of the {self.kind} endpoint is not UTF-8")

    @classmethod
    def parse(
        cls,
        text: str,
        *,
        kinds: Collection[str] = KNOWN_KINDS,
        options: Mapping[str, Collection[str]] = KNOWN_OPTIONS,
    ) -> Endpoint:
        """Read an endpoint.

        Args:
            text: what to read.
            kinds: the kinds that are known.
            options: the options that are known, by kind.

        Raises:
            TextError: unknown kind or option (the known ones are listed), or a malformed text.
        """
        return cls.parse_at(text, 1, kinds=kinds, options=options)

    @classmethod
    def parse_at(
        cls, text: str, column: int, *, kinds: Collection[str], options: Mapping[str, Collection[str]]
    ) -> Endpoint:
        """The same for a text that begins at a column of a longer one."""
        kind = kind_of(text)
        if kind not in kinds:
            wrong = f"unknown kind {kind!r}" if kind else f"{text!r} is not KIND:DETAILS"
            raise TextError(f"{wrong}; known kinds: {', '.join(sorted(kinds))}", column)
        start = len(kind) + (text[len(kind) : len(kind) + 1] == ":")
        details, mark, query = text[start:].partition("?")
        decoded = unescape_text(details, ",", column + start)
        query_column = column + start + len(details) + 1
        found = _options(query, query_column, kind, options.get(kind, ())) if mark else ()
        try:
            return cls(kind, decoded, found)
        except UsageError as error:
            raise TextError(str(error), column + start) from error

    @property
    def host_port(self) -> HostPort:
        """The details as host and port, for the kinds that have them.

        Raises:
            UsageError: the details are something else.
        """
        return HostPort.parse(self.details, allow_any_host=True)

    def __str__(self) -> str:
        text = self.kind if self.kind in BARE_KINDS else f"{self.kind}:{escape(self.details.encode(), ',?')}"
        if self.options:
            pairs = (f"{escape(k.encode(), ',&=')}={escape(v.encode(), ',&>')}" for k, v in self.options)
            text += "?" + "&".join(pairs)
        return text


def kind_of(text: str) -> str:
    """The kind that an endpoint names, known or not; empty if the text is a bare name."""
    head, colon, _ = text.partition(":")
    bare = text.partition("?")[0]
    return bare if bare in BARE_KINDS else head if colon else ""


def _options(query: str, column: int, kind: str, known: Collection[str]) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for pair in query.split("&"):
        name, mark, value = pair.partition("=")
        key = unescape_text(name, ",", column)
        if key not in known:
            listed = f"known options: {', '.join(sorted(known))}" if known else f"{kind} has no options"
            raise TextError(f"unknown option {key!r}; {listed}", column)
        if not mark:
            raise TextError(f"option {key} has no value", column)
        if key in found:
            raise TextError(f"option {key} stands twice", column)
        found[key] = unescape_text(value, ",", column + len(name) + 1)
        column += len(pair) + 1
    return tuple(found.items())


def is_utf8(text: str) -> bool:
    """True if the text can be written as UTF-8: no lone surrogates, as an odd argument has them."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
