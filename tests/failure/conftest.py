"""Commands that are killed, misled and starved: the fixtures of the command's own tests, and services."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.conftest import homes, port_of, run, serve, tcp_server

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["homes", "port_of", "run", "serve", "tcp_server"]

ANY = "tcp:127.0.0.1:0"


class Tunnel:
    """A relay, an outlet registered at it, an inlet that goes there; each can be started again."""

    def __init__(self, serve: Any, homes: Any, target: int) -> None:
        self._serve = serve
        self._homes = homes
        self._target = f"tcp:127.0.0.1:{target}"
        self.relay = serve("relay", "--listen", ANY, "--output", "json")
        self.at: str = self.relay.event("ready")["listening"][0]
        self.outlet = self.start_outlet()
        self.bind = ANY
        self.inlet = self.start_inlet()

    def start_relay(self) -> Any:
        self.relay = self._serve("relay", "--listen", self.at, "--output", "json")
        self.relay.event("ready")
        return self.relay

    def start_outlet(self, at: str | None = None) -> Any:
        way = ["--relay", at or self.at, "--name", "pi", "--allow", self._homes["laptop"][1]]
        home = self._homes["pi"][0]
        self.outlet = self._serve("outlet", self._target, *way, "--output", "json", home=home)
        self.outlet.event("ready")
        return self.outlet

    def start_inlet(self, at: str | None = None) -> Any:
        way = ["--relay", at or self.at, "--name", "pi", "--allow", self._homes["pi"][1]]
        home = self._homes["laptop"][0]
        self.inlet = self._serve("inlet", self.bind, *way, "--output", "json", home=home)
        self.bind = self.inlet.event("ready")["listening"][0]
        return self.inlet

    def start(self, which: str) -> None:
        getattr(self, f"start_{which}")()

    def connect(self, timeout: float = 12) -> socket.socket:
        """A client of the inlet."""
        return socket.create_connection(("127.0.0.1", int(self.bind.rpartition(":")[2])), timeout)

    def echoes(self, data: bytes) -> bool:
        """True if a new connection brings ``data`` back; False if it ends with nothing wrong."""
        with self.connect() as client:
            try:
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                came = b"".join(iter(lambda: client.recv(65_536), b""))
            except ConnectionError:
                return False
        assert came in (data, b"")
        return came == data


@pytest.fixture
def echo(tcp_server: Any) -> int:
    """A service that returns what it gets; its port."""

    def treat(connection: socket.socket) -> None:
        while data := connection.recv(65_536):
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)

    port: int = tcp_server(treat)
    return port


@pytest.fixture
def tunnel(serve: Any, homes: Any, echo: int) -> Callable[..., Tunnel]:
    """Start a tunnel."""

    def start(target: int = echo) -> Tunnel:
        return Tunnel(serve, homes, target)

    return start
