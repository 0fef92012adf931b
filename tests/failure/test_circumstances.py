"""What the world does to a command: full disks, wrong clocks, callers that speak something else."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ANY = "tcp:127.0.0.1:0"
ROOT = Path(__file__).parents[2]


def told(done: Any, code: int) -> None:
    """It ended with ``code`` and a line, and no traceback."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("ockamlite: ")


def start(*arguments: str, home: Path, before: list[str] | None = None, **options: Any) -> Any:
    """Run the command in a process that was prepared somehow."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OCKAMLITE_")}
    return subprocess.run(
        [*(before or []), sys.executable, "-m", "ockamlite", *arguments],
        env=kept | {"OCKAMLITE_HOME": str(home), "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=15, check=False, **options,
    )  # fmt: skip


def test_a_disk_without_room_ends_with_74_and_loses_nothing(run: Any, tmp_path: Path) -> None:
    home = tmp_path / "state"
    identifier = run("identity", "create", home=home).stdout

    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    told(start("identity", "create", "more", home=home, preexec_fn=no_room), 74)
    assert run("identity", "show", home=home).stdout == identifier
    assert run("identity", "create", "more", home=home).returncode == 0


def test_a_node_that_cannot_keep_its_key_ends_with_74_before_it_serves(run: Any, tmp_path: Path) -> None:
    home = tmp_path / "state"
    run("identity", "create", home=home)

    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    serving = start("node", "--listen", ANY, "--trust-everyone", "--quiet", home=home, preexec_fn=no_room)
    told(serving, 74)
    assert serving.stdout == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a folder read-only")
def test_a_state_folder_that_cannot_be_written_ends_with_74(run: Any, tmp_path: Path) -> None:
    home = tmp_path / "state"
    run("identity", "create", home=home)
    inner = f'mount --bind {home} {home} && mount -o remount,bind,ro {home} && exec "$@"'
    probe = subprocess.run(
        ["unshare", "-m", "sh", "-c", inner, "sh", "true"], check=False, capture_output=True
    )
    if probe.returncode:
        pytest.skip("this machine does not let us mount anything")
    told(start("identity", "create", "x", home=home, before=["unshare", "-m", "sh", "-c", inner, "sh"]), 74)


@pytest.mark.skipif(shutil.which("faketime") is None, reason="needs faketime: apt-get install faketime")
def test_a_clock_that_is_a_day_late_is_told_and_harms_nothing(
    run: Any, serve: Any, homes: Any, tmp_path: Path
) -> None:
    home = tmp_path / "state"
    run("identity", "create", home=home)
    node = serve(
        "node", "--listen", ANY, "--trust-everyone", "--output", "json", "--quiet", home=homes["pi"][0]
    )
    at = node.event("ready")["listening"][0]
    send = ["send", f"{at},secure:secure_channel_listener,uppercase", "x", "--trust-everyone", "--quiet"]
    late = start(*send, home=home, before=["faketime", "-f", "-1d"])
    assert late.returncode not in (0, 70)
    assert "clock" in late.stderr
    assert "try: set the clock" in late.stderr
    assert "Traceback" not in late.stderr
    assert run(*send, home=home).stdout == "X\n"


def test_strangers_who_take_every_descriptor_cost_a_line_of_log_and_others_their_turn(
    run: Any, serve: Any
) -> None:
    node = serve("node", "--listen", ANY, "--insecure", "--output", "json")
    at = node.event("ready")["listening"][0]
    resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE, (64, 64))
    strangers = [socket.create_connection(("127.0.0.1", int(at.rpartition(":")[2]))) for _ in range(150)]
    said = node.line_with("no more connections for now", "stderr")
    for stranger in strangers:
        stranger.close()
    assert "too many open files" in said
    assert run("send", f"{at},uppercase", "x").stdout == "X\n"
    assert node.stop() == 0
    rest = node.rest("stderr")
    assert "Traceback" not in rest
    assert len(rest.splitlines()) < 5


def test_what_serves_may_open_more_files_than_is_usual(serve: Any) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard <= 1024:
        pytest.skip("this machine allows no more")
    ours = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        node = serve("node", "--listen", ANY, "--insecure")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, ours)
    node.line()
    assert resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE)[0] > 1024


STRANGERS = {
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "tls": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    "nothing": b"",
    "zeros": bytes(5000),
    "garbage": b"\x01" + bytes.fromhex("0000ffff") + os.urandom(3000),
    "too long": b"\x01" + bytes.fromhex("ffffffff") + bytes(100),
}


def test_strangers_on_every_port_do_not_disturb_a_client(
    tunnel: Any, serve: Any, homes: Any, echo: int
) -> None:
    found = tunnel()
    direct = serve(
        "outlet", f"tcp:127.0.0.1:{echo}", "--listen", ANY, "--trust-everyone", "--output", "json",
        home=homes["pi"][0],
    )  # fmt: skip
    ports = [found.at, direct.event("ready")["listening"][0]]
    with found.connect() as client:
        for endpoint in ports:
            for said in STRANGERS.values():
                port = int(endpoint.rpartition(":")[2])
                with socket.create_connection(("127.0.0.1", port), timeout=5) as stranger:
                    stranger.sendall(said)
                client.sendall(b"good")
                assert client.recv(4) == b"good"
        for said in STRANGERS.values():  # the port of an inlet takes anything: it is for the service
            assert found.echoes(said)
    for serving in (found.relay, found.outlet, found.inlet, direct):
        assert serving.stop() == 0
        assert "Traceback" not in serving.rest("stderr")


class Middle:
    """Passes the frames of links on; does something to some of those that go to the inlet."""

    def __init__(self, target: str) -> None:
        self._target = int(target.rpartition(":")[2])
        self._server = socket.create_server(("127.0.0.1", 0))
        self.at = f"tcp:127.0.0.1:{self._server.getsockname()[1]}"
        self.fault: Callable[[list[bytes]], list[bytes] | None] | None = None
        self._sockets: list[socket.socket] = [self._server]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        try:
            while True:
                here, _ = self._server.accept()
                there = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += (here, there)
                for ends in ((here, there, False), (there, here, True)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()
        except OSError:
            return

    def _pass(self, source: socket.socket, sink: socket.socket, faulty: bool) -> None:
        held: list[bytes] = []
        try:
            with source.makefile("rb") as stream:
                sink.sendall(stream.read(1))
                while len(head := stream.read(4)) == 4:
                    held.append(stream.read(int.from_bytes(head)))
                    is_data = faulty and self.fault is not None and len(held[-1]) > 10_000
                    out = self.fault(held) if is_data and self.fault is not None else held[:]
                    if out is None:
                        continue
                    if is_data:
                        self.fault = None
                    for frame in out:
                        sink.sendall(len(frame).to_bytes(4) + frame)
                    held.clear()
        except OSError:
            pass
        finally:
            sink.close()

    def close(self) -> None:
        for each in self._sockets:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            each.close()


@pytest.mark.parametrize(
    ("fault", "whole"),
    [
        (lambda frames: [], False),
        (lambda frames: [frames[0]] * 3, True),
        (lambda frames: frames[::-1] if len(frames) == 2 else None, False),
        (lambda frames: [*frames[1:], frames[0]] if len(frames) == 4 else None, False),
        (lambda frames: [frames[0][:-1] + bytes([frames[0][-1] ^ 1])], False),
    ],
    ids=["drops", "repeats", "swaps", "delays", "spoils"],
)
def test_what_a_bad_node_in_the_middle_does_is_an_error_and_never_wrong_bytes(
    serve: Any, homes: Any, tcp_server: Any, fault: Any, whole: bool
) -> None:
    answer = os.urandom(1_000_000)
    target = f"tcp:127.0.0.1:{tcp_server(lambda connection: connection.sendall(answer))}"
    (home, pi), (other_home, laptop) = homes["pi"], homes["laptop"]
    outlet = serve("outlet", target, "--listen", ANY, "--allow", laptop, "--output", "json", home=home)
    middle = Middle(outlet.event("ready")["listening"][0])
    inlet = serve("inlet", ANY, "--via", middle.at, "--allow", pi, "--output", "json", home=other_home)
    port = int(inlet.event("ready")["listening"][0].rpartition(":")[2])

    def fetch() -> tuple[bytes, bool]:
        found = bytearray()
        with socket.create_connection(("127.0.0.1", port), timeout=12) as client:
            try:
                while data := client.recv(65_536):
                    found += data
            except ConnectionError:
                return bytes(found), False
        return bytes(found), True

    try:
        assert fetch() == (answer, True)
        middle.fault = fault
        found, good = fetch()
        assert middle.fault is None
        assert good is whole
        assert found == answer if whole else answer.startswith(found)
        assert fetch() == (answer, True)
    finally:
        middle.close()
