"""What a tunnel is loaded with: bulk transfers, round trips, new connections, busy connections.

Blocking sockets and one selector, no event loop: the generator has to be cheaper than what it measures.
Run as `python -m benchmarks.load PORT SECONDS` it sends in bulk for that long, beside other measurements.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from dataclasses import dataclass

from benchmarks import pattern
from benchmarks.errors import BenchmarkError, WrongBytesError

TIMEOUT_S = 60.0
MIB = 2**20


def connect(port: int) -> socket.socket:
    """A connection to the near end of a tunnel, without Nagle's delay."""
    connection = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise BenchmarkError(f"the connection ended after {len(data)} of {size} bytes")
        data += piece
    return data


def blocks_of(mib: int) -> int:
    """How many blocks of the pattern make so many MiB."""
    return mib * MIB // pattern.BLOCK


def bulk_up(port: int, blocks: int) -> float:
    """Send blocks through the tunnel; seconds until the far end confirmed that all arrived right."""
    with connect(port) as connection:
        start = time.perf_counter()
        connection.sendall(b"U")
        sent = pattern.send(connection, lambda number: number < blocks)
        _confirm(connection, sent)
        return time.perf_counter() - start


def bulk_down(port: int, blocks: int) -> float:
    """Receive blocks through the tunnel; seconds until the last was compared."""
    with connect(port) as connection:
        start = time.perf_counter()
        connection.sendall(b"D" + pattern.COUNT.pack(blocks))
        got = pattern.receive(connection)
        if got != blocks:
            raise WrongBytesError(f"{got} of {blocks} blocks arrived")
        return time.perf_counter() - start


def _confirm(connection: socket.socket, sent: int) -> None:
    (right,) = pattern.COUNT.unpack(_exactly(connection, pattern.COUNT.size))
    if right != sent:
        raise WrongBytesError(f"{right} of {sent} blocks arrived right")


def round_trips(port: int, *, count: int, seconds: float) -> list[float]:
    """Seconds of each 1-byte round trip on one connection: `count`, or as many as fit in `seconds`."""
    took: list[float] = []
    with connect(port) as connection:
        for _ in range(20):
            _ping(connection)
        deadline = time.perf_counter() + seconds
        while len(took) < count and (start := time.perf_counter()) < deadline:
            _ping(connection)
            took.append(time.perf_counter() - start)
    if not took:
        raise BenchmarkError(f"no round trip within {seconds} s")
    return took


def _ping(connection: socket.socket) -> None:
    connection.sendall(b"e")
    if connection.recv(1) != b"e":
        raise BenchmarkError("the echo did not come back")


def connections_in_turn(port: int, count: int) -> float:
    """New connections a second, one after the other, each with one byte there and back."""
    start = time.perf_counter()
    for _ in range(count):
        with connect(port) as connection:
            _ping(connection)
    return count / (time.perf_counter() - start)


def connections_at_once(port: int, count: int, width: int) -> float:
    """New connections a second, `width` at any time, each with one byte there and back."""
    selector, started, done = selectors.DefaultSelector(), 0, 0

    def begin() -> None:
        nonlocal started
        started += 1
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex(("127.0.0.1", port))
        selector.register(connection, selectors.EVENT_WRITE)

    start = time.perf_counter()
    for _ in range(min(width, count)):
        begin()
    while done < count:
        events = selector.select(TIMEOUT_S)
        if not events:
            raise BenchmarkError(f"{done} of {count} connections were served, then none")
        for key, ready in events:
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            if ready & selectors.EVENT_WRITE:
                connection.send(b"e")
                selector.modify(connection, selectors.EVENT_READ)
                continue
            if connection.recv(1) != b"e":
                raise BenchmarkError("a new connection was closed without its answer")
            selector.unregister(connection)
            connection.close()
            done += 1
            if started < count:
                begin()
    took = time.perf_counter() - start
    selector.close()
    return count / took


@dataclass(frozen=True, slots=True)
class Chatter:
    """What connections that all exchange small messages at once got done."""

    round_trips: int
    seconds: float
    latencies_s: list[float]


class BusyConnections:
    """Many open connections, each with one small message on its way at any time."""

    def __init__(self, port: int, count: int, *, size_bytes: int = 100) -> None:
        self._message = b"e" * size_bytes
        self._connections: list[socket.socket] = []
        try:
            for _ in range(count):
                connection = connect(port)
                self._connections.append(connection)
                _ping(connection)
        except BaseException:
            self.close()
            raise

    def run(self, seconds: float) -> Chatter:
        """Exchange messages for so long, and wait for the last answers."""
        size, message, clock = len(self._message), self._message, time.perf_counter
        selector = selectors.DefaultSelector()
        start = clock()
        deadline, waiting, took = start + seconds, len(self._connections), []
        sent: dict[socket.socket, float] = {}
        missing: dict[socket.socket, int] = {}
        for connection in self._connections:
            selector.register(connection, selectors.EVENT_READ)
            connection.sendall(message)
            sent[connection], missing[connection] = clock(), size
        while waiting:
            events = selector.select(TIMEOUT_S)
            if not events:
                raise BenchmarkError(f"{waiting} connections wait for an answer")
            for key, _ in events:
                talking = key.fileobj
                assert isinstance(talking, socket.socket)
                data = talking.recv(size)
                if not data:
                    raise BenchmarkError("a busy connection was closed")
                missing[talking] -= len(data)
                if missing[talking]:
                    continue
                now = clock()
                took.append(now - sent[talking])
                if now < deadline:
                    talking.sendall(message)
                    sent[talking], missing[talking] = now, size
                else:
                    waiting -= 1
        finish = clock()
        selector.close()
        return Chatter(len(took), finish - start, took)

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections:
            connection.close()

    def __enter__(self) -> BusyConnections:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _send_for(port: int, seconds: float) -> None:
    with connect(port) as connection:
        connection.sendall(b"U")
        print(json.dumps({"event": "sending"}), flush=True)
        start = time.perf_counter()
        sent = pattern.send(connection, lambda _: time.perf_counter() - start < seconds)
        _confirm(connection, sent)
        took = time.perf_counter() - start
    print(json.dumps({"event": "sent", "mib_per_s": sent * pattern.BLOCK / MIB / took}), flush=True)


if __name__ == "__main__":
    _send_for(int(sys.argv[1]), float(sys.argv[2]))
