"""Links as hops of a message: the address that asks the node where it arrives to dial an endpoint.

Serial lines have no number in Ockam. Ours is from the upper end of the range; nobody but ockamlite's
nodes reads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ockamlite.errors import UsageError
from ockamlite.routing.address import BLE, SERIAL, TCP, UDP, UNIX, WEBSOCKET, Address
from ockamlite.routing.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

TYPES: Final[Mapping[str, int]] = {
    "tcp": TCP,
    "udp": UDP,
    "websocket": WEBSOCKET,
    "ble": BLE,
    "unix": UNIX,
    "serial": SERIAL,
}
"""The transport type of each kind of link that a node in the middle can be asked for."""
KINDS: Final[Mapping[int, str]] = {number: kind for kind, number in TYPES.items()}


def link_address(endpoint: Endpoint) -> Address:
    """The address that asks for ``endpoint``.

    Of a serial line it has the options too. Those of other links have no place in it: Ockam's addresses
    have none. They are the choice of the node that dials.

    Raises:
        UsageError: links of this kind cannot be asked for, or not with options.
    """
    number = TYPES.get(endpoint.kind)
    if number is None:
        raise UsageError(f"a {endpoint.kind} link can only be the first hop of a route")
    if number == SERIAL:
        return Address(number, str(endpoint).partition(":")[2].encode())
    if endpoint.options:
        names = ", ".join(name for name, _ in endpoint.options)
        raise UsageError(
            f"the node that dials a {endpoint.kind} link chooses its {names}",
            hint=f"leave the option out here, and give that node --forward {endpoint}",
        )
    return Address(number, endpoint.details.encode())


def asked_endpoint(address: Address) -> Endpoint | None:
    """The endpoint that a peer's address asks for; None if it asks for none."""
    kind = KINDS.get(address.transport)
    if kind is None:
        return None
    try:
        details = address.body.decode()
        return Endpoint.parse(f"{kind}:{details}") if kind == "serial" else Endpoint(kind, details)
    except (UnicodeDecodeError, UsageError):
        return None
