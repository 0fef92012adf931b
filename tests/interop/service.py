"""The service behind the portals, and what its users do."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import http.server
import os
import queue
import random
import shutil
import socket
import struct
import threading
from typing import TYPE_CHECKING, ClassVar

import pytest

from tests.interop.programs import HOST, RUN_S, plain_environment, run, story

if TYPE_CHECKING:
    from pathlib import Path

BLOB = random.Random(20).randbytes(10 * 1024 * 1024)
"""What goes through every portal, both ways."""
BLOB_SHA256 = hashlib.sha256(BLOB).hexdigest()

RESET_AFTER = 256 * 1024
"""Bytes of a connection that ends with an error."""


def reset(connection: socket.socket) -> None:
    """End a connection with an error for its other end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(connection.detach())


class Service(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        match self.path:
            case "/blob":
                self._answer(BLOB)
            case "/ended":
                self._answer(Server.ended.get(timeout=RUN_S).encode())
            case _:
                self._answer(self.path.encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(hashlib.sha256(body).hexdigest().encode())

    def do_ECHO(self) -> None:
        """From here on the connection is not HTTP: every byte comes back at once."""
        self.close_connection = True
        while chunk := self.rfile.read1(65536):
            self.connection.sendall(chunk)

    def do_RESET(self) -> None:
        """Some data, and then an end with an error."""
        self.connection.sendall(BLOB[:RESET_AFTER])
        reset(self.connection)

    def do_WATCH(self) -> None:
        """Take what comes until the connection ends; GET /ended says how it did."""
        self.close_connection = True
        self.connection.sendall(b"watching")
        ended = "an end"
        try:
            while self.connection.recv(65536):
                pass
        except ConnectionResetError:
            ended = "a reset"
        Server.ended.put(ended)

    def log_message(self, *_: object) -> None:
        """Not in the test's output."""


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    ended: ClassVar[queue.Queue[str]] = queue.Queue()
    """How connections that were watched have ended."""

    def handle_error(self, *_: object) -> None:
        """A client that leaves early is no news."""


class PortalUser:
    """What an application does with the local end of a portal."""

    def exchange(self, port: int) -> None:
        """10 MiB there and back on one connection, both directions busy at once."""
        with socket.create_connection((HOST, port), timeout=RUN_S) as client:
            sender = threading.Thread(target=self._send, args=(client,), daemon=True)
            sender.start()
            received = hashlib.sha256()
            left = len(BLOB)
            while left:
                chunk = client.recv(65536)
                assert chunk, f"closed with {left} of {len(BLOB)} bytes outstanding"
                received.update(chunk)
                left -= len(chunk)
            sender.join(5)
        assert received.hexdigest() == BLOB_SHA256

    @staticmethod
    def _send(client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            client.sendall(b"ECHO / HTTP/1.1\r\nHost: service\r\n\r\n")
            client.sendall(BLOB)

    def curl(self, port: int, folder: Path) -> None:
        """10 MiB down, 10 MiB up, with a real HTTP client."""
        if shutil.which("curl") is None:
            pytest.skip("curl is not installed")
        blob, fetched = folder / "blob", folder / "fetched"
        blob.write_bytes(BLOB)
        base = ["curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "30"]
        url = f"http://{HOST}:{port}"
        down = run([*base, "--output", str(fetched), f"{url}/blob"], plain_environment(), 40)
        assert down.returncode == 0, story(down)
        assert hashlib.sha256(fetched.read_bytes()).hexdigest() == BLOB_SHA256
        up = run([*base, "--data-binary", f"@{blob}", f"{url}/digest"], plain_environment(), 40)
        assert (up.returncode, up.stdout) == (0, BLOB_SHA256), story(up)

    def chat(self, port: int, rounds: int) -> None:
        """Questions and answers on one connection, each a message of its own."""
        client = http.client.HTTPConnection(HOST, port, timeout=RUN_S)
        try:
            for number in range(rounds):
                client.request("GET", f"/{number}")
                assert client.getresponse().read() == f"/{number}".encode()
        finally:
            client.close()

    def chat_while_another_closes(self, port: int) -> None:
        """A connection that ends in the middle of an answer takes nothing else with it."""
        lasting = http.client.HTTPConnection(HOST, port, timeout=RUN_S)
        try:
            lasting.request("GET", "/before")
            assert lasting.getresponse().read() == b"/before"
            with socket.create_connection((HOST, port), timeout=RUN_S) as leaving:
                leaving.sendall(b"GET /blob HTTP/1.1\r\nHost: service\r\n\r\n")
                assert leaving.recv(1) == b"H"
            lasting.request("GET", "/after")
            assert lasting.getresponse().read() == b"/after"
        finally:
            lasting.close()

    def reset_by_client(self, port: int) -> str:
        """A client that ends with an error in the middle of a transfer; what the service saw of it."""
        client = socket.create_connection((HOST, port), timeout=RUN_S)
        client.sendall(b"WATCH / HTTP/1.1\r\nHost: service\r\n\r\n")
        assert client.recv(8, socket.MSG_WAITALL) == b"watching"
        client.sendall(BLOB[:RESET_AFTER])
        reset(client)
        return self._fetch(port, "/ended")

    def reset_by_service(self, port: int) -> str:
        """A service that ends with an error in the middle of a transfer; what the client saw of it."""
        ended = "an end"
        with socket.create_connection((HOST, port), timeout=RUN_S) as client:
            client.sendall(b"RESET / HTTP/1.1\r\nHost: service\r\n\r\n")
            try:
                while client.recv(65536):
                    pass
            except ConnectionResetError:
                ended = "a reset"
        assert self._fetch(port, "/after") == "/after"
        return ended

    def _fetch(self, port: int, path: str) -> str:
        client = http.client.HTTPConnection(HOST, port, timeout=RUN_S)
        try:
            client.request("GET", path)
            return client.getresponse().read().decode()
        finally:
            client.close()
