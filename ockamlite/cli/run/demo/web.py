"""The small web service of the demo: a page and a file, each with the canary in it."""

from __future__ import annotations

import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import TracebackType

FILE_BYTES: Final = 1024 * 1024

_PAGE: Final = """<!doctype html>
<title>A device</title>
<h1>Hello from a device</h1>
<p>This page came through two gateways and a relay. None of them could read it, nor this: {canary}</p>
<p><a href="/file">A file of 1 MiB</a></p>
"""


class WebService:
    """Serves on a port of this machine, in threads."""

    def __init__(self, canary: str) -> None:
        mark = canary.encode()
        noise = secrets.token_bytes(FILE_BYTES // 2 - len(mark))
        self.page = _PAGE.format(canary=canary).encode()
        self.file = mark + noise + mark + noise
        contents = {
            "/": (self.page, "text/html; charset=utf-8"),
            "/file": (self.file, "application/octet-stream"),
        }

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            server_version = "device"
            sys_version = ""

            def do_GET(self) -> None:
                body, kind = contents.get(self.path, (b"", ""))
                self.send_response(200 if body else 404)
                self.send_header("Content-Length", str(len(body)))
                if kind:
                    self.send_header("Content-Type", kind)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base class's name)
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> WebService:
        """Start."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self._server.shutdown()
        self._thread.join(1.0)
        self._server.server_close()
