"""ockamlite: end-to-end encrypted routes over any mix of links, in Ockam's wire format.

    async with Node() as node:
        link = await node.connect("tcp:127.0.0.1:4000")
        reply = await node.ask(link.route / "uppercase", "hello")

The names below are public; everything else may change. Each is imported when it is first used, so that
what needs few of them starts quickly.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from ockamlite._version import __version__

if TYPE_CHECKING:
    from ockamlite.errors import (
        AnswerTimeoutError,
        LinkError,
        LocalError,
        OckamError,
        RemoteError,
        TrustError,
    )
    from ockamlite.identities.identifier import Identifier
    from ockamlite.identities.local import LocalIdentity
    from ockamlite.limits import Limits
    from ockamlite.links import Link
    from ockamlite.node import Node
    from ockamlite.paths import Path
    from ockamlite.routing.address import Address
    from ockamlite.routing.route import Route
    from ockamlite.secure_channels.channel import SecureChannel
    from ockamlite.secure_channels.trust import Trust, TrustEveryone, TrustIdentifiers
    from ockamlite.workers.context import Context
    from ockamlite.workers.mailbox import Received
    from ockamlite.workers.worker import Worker

__all__ = [
    "Address",
    "AnswerTimeoutError",
    "Context",
    "Identifier",
    "Limits",
    "Link",
    "LinkError",
    "LocalError",
    "LocalIdentity",
    "Node",
    "OckamError",
    "Path",
    "Received",
    "RemoteError",
    "Route",
    "SecureChannel",
    "Trust",
    "TrustError",
    "TrustEveryone",
    "TrustIdentifiers",
    "Worker",
    "__version__",
]

_HOMES: Final = {
    "Address": "ockamlite.routing.address",
    "AnswerTimeoutError": "ockamlite.errors",
    "Context": "ockamlite.workers.context",
    "Identifier": "ockamlite.identities.identifier",
    "Limits": "ockamlite.limits",
    "Link": "ockamlite.links",
    "LinkError": "ockamlite.errors",
    "LocalError": "ockamlite.errors",
    "LocalIdentity": "ockamlite.identities.local",
    "Node": "ockamlite.node",
    "OckamError": "ockamlite.errors",
    "Path": "ockamlite.paths",
    "Received": "ockamlite.workers.mailbox",
    "RemoteError": "ockamlite.errors",
    "Route": "ockamlite.routing.route",
    "SecureChannel": "ockamlite.secure_channels.channel",
    "Trust": "ockamlite.secure_channels.trust",
    "TrustEveryone": "ockamlite.secure_channels.trust",
    "TrustError": "ockamlite.errors",
    "TrustIdentifiers": "ockamlite.secure_channels.trust",
    "Worker": "ockamlite.workers.worker",
}
"""Where each public name lives."""

if not TYPE_CHECKING:  # a type checker sees the imports above, and reports names that do not exist

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
