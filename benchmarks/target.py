"""The service behind every tunnel; run as `python -m benchmarks.target`, prints its port as a JSON line.

The first byte of a connection says what it is for: `U`, the client sends the pattern and is told the number
of blocks that were right; `D` and a number of blocks, the client is sent as many; anything else, that byte
too, is echoed. Echoes are served by one loop without threads, each bulk transfer by a forked process, so that
neither waits for the other.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys

from benchmarks import pattern
from benchmarks.errors import WrongBytesError

_ECHO_BYTES = 64 * 1024


def _bulk(connection: socket.socket, first: bytes) -> None:
    connection.setblocking(True)
    if first[:1] == b"U":
        connection.sendall(pattern.COUNT.pack(pattern.receive(connection)))
        return
    wanted = first[1:]
    while len(wanted) < pattern.COUNT.size:
        piece = connection.recv(pattern.COUNT.size - len(wanted))
        if not piece:
            return
        wanted += piece
    (blocks,) = pattern.COUNT.unpack(wanted)
    pattern.send(connection, lambda number: number < blocks)


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


class _Echo:
    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, None)
        self._fresh: set[socket.socket] = set()

    def run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                connection = key.fileobj
                if not isinstance(connection, socket.socket):
                    continue
                if connection is self._listener:
                    self._accept()
                else:
                    self._serve(connection)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._fresh.add(connection)
        self._selector.register(connection, selectors.EVENT_READ)

    def _serve(self, connection: socket.socket) -> None:
        fresh = connection in self._fresh
        try:
            # A bulk stream must not be read beyond its own first bytes: the forked process reads on.
            data = connection.recv(1 if fresh else _ECHO_BYTES)
            if fresh and data in (b"U", b"D"):
                self._hand_over(connection, data)
            elif data:
                connection.sendall(data)
        except OSError:
            data = b""
        self._fresh.discard(connection)
        if not data or (fresh and data in (b"U", b"D")):
            self._selector.unregister(connection)
            connection.close()

    def _hand_over(self, connection: socket.socket, first: bytes) -> None:
        _reap()
        if os.fork():
            return
        # What the parent closes must not stay open here, or the other end would never learn of it.
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket) and key.fileobj is not connection:
                key.fileobj.close()
        self._selector.close()
        status = 0
        try:
            _bulk(connection, first)
        except (OSError, WrongBytesError) as error:
            print(f"bulk: {error}", file=sys.stderr, flush=True)
            status = 1
        finally:
            # Nothing of the parent's, its loop least of all, may run on in here.
            os._exit(status)


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    _Echo(listener).run()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(0)
