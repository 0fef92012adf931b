"""Where a service is, and how each implementation writes the way there."""

from __future__ import annotations

import dataclasses

from tests.interop.programs import HOST


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where a service is, before a dialect of routes is chosen."""

    port: int
    """TCP port of the first node, on loopback."""
    listener: str | None = None
    """Open a secure channel to this listener; none: in clear."""
    relay: str | None = None
    """The first node is a relay, and the service behind this name of it."""
    identifier: str | None = None
    """Who is there, where known."""

    def at(self, relay: Place, name: str) -> Place:
        """The same service, reached through the name that it has at a relay."""
        return dataclasses.replace(self, port=relay.port, relay=name)

    @property
    def clear(self) -> Place:
        return dataclasses.replace(self, listener=None)

    def hops(self, *workers: str) -> str:
        """As `ockamlite` and `ockam-peer` write it."""
        words = [f"tcp:{HOST}:{self.port}"]
        words += [f"forward_to_{self.relay}"] if self.relay else []
        words += [f"secure:{self.listener}"] if self.listener else []
        return ",".join([*words, *workers])

    def multiaddr(self, *workers: str) -> str:
        """As the `ockam` command writes it."""
        text = f"/ip4/{HOST}/tcp/{self.port}"
        text += f"/service/forward_to_{self.relay}" if self.relay else ""
        text += f"/secure/{self.listener}" if self.listener else ""
        return text + "".join(f"/service/{worker}" for worker in workers)


def port_of(endpoint: str) -> int:
    return int(endpoint.rsplit(":", 1)[1])
