"""Processes that die, are told to end in the middle of something, or share what they keep."""

from __future__ import annotations

import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

ANY = "tcp:127.0.0.1:0"
SLACK_S = 2
"""For a machine that is busy with other tests."""


def read(client: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size and (data := client.recv(min(65_536, size - len(found)))):
        found += data
    return bytes(found)


@pytest.mark.parametrize("which", ["inlet", "outlet", "relay"])
def test_what_was_killed_is_used_again_within_ten_seconds_of_its_return(tunnel: Any, which: str) -> None:
    found = tunnel()
    with found.connect() as client:
        client.sendall(b"before")
        assert read(client, 6) == b"before"
        victim = getattr(found, which)
        assert victim.stop(signal.SIGKILL) == -signal.SIGKILL
        assert "Traceback" not in victim.rest("stderr")
        if which == "relay":  # the end of an outlet behind it shows by silence only
            with pytest.raises(ConnectionError):
                assert client.recv(1) == b"?"
    if which == "relay":
        assert found.inlet.event("session-close")["reason"].startswith("the way to the peer is gone")
        assert found.inlet.event("link-down")["reason"]
        assert found.outlet.event("relay-lost")["address"] == "forward_to_pi"
    else:
        assert found.relay.event("link-down")["reason"]
    found.start(which)
    if which == "relay":
        assert found.outlet.event("relay-registered")["address"] == "forward_to_pi"
    back = time.monotonic()
    while not found.echoes(b"after"):
        assert time.monotonic() - back < 10 + SLACK_S
    assert time.monotonic() - back < 10 + SLACK_S
    for serving in (found.inlet, found.outlet, found.relay):
        assert serving.process.poll() is None


@pytest.mark.parametrize("which", ["inlet", "outlet", "relay"])
def test_an_end_in_mid_transfer_is_an_error_for_applications_and_frees_the_ports(
    tunnel: Any, tcp_server: Any, which: str
) -> None:
    def flood(connection: socket.socket) -> None:
        while True:
            connection.sendall(bytes(65_536))

    found = tunnel(tcp_server(flood))
    with found.connect() as client:
        assert read(client, 200_000) == bytes(200_000)
        ending = getattr(found, which)
        began = time.monotonic()
        ending.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionError):
            read(client, 1 << 40)
        assert ending.process.wait(10) == 0
        assert time.monotonic() - began < 2
    assert "Traceback" not in ending.rest("stderr")
    if which == "outlet":
        return  # it listens nowhere
    endpoint = found.at if which == "relay" else found.bind
    with socket.create_server(("127.0.0.1", int(endpoint.rpartition(":")[2]))):
        pass
    found.start(which)


def test_processes_share_a_state_folder(run: Any, serve: Any, echo: int, tmp_path: Any) -> None:
    home = tmp_path / "shared"
    identifier = run("identity", "create", home=home).stdout.strip()
    outlet = serve(
        "outlet",
        f"tcp:127.0.0.1:{echo}",
        "--listen",
        ANY,
        "--allow",
        identifier,
        "--output",
        "json",
        home=home,
    )
    at = outlet.event("ready")["listening"][0]
    inlet = serve("inlet", ANY, "--via", at, "--allow", identifier, "--output", "json", home=home)
    port = int(inlet.event("ready")["listening"][0].rpartition(":")[2])

    def create(number: int) -> Any:
        return run("identity", "create", f"name{number}", home=home)

    with ThreadPoolExecutor(2) as pool:
        created = list(pool.map(create, range(4)))
    assert [done.returncode for done in created] == [0] * 4, created
    with socket.create_connection(("127.0.0.1", port), timeout=12) as client:
        client.sendall(b"still here")
        assert read(client, 10) == b"still here"
    assert (inlet.stop(), outlet.stop()) == (0, 0)
    listed = run("identity", "list", home=home).stdout
    assert all(done.stdout.strip() in listed for done in created)


def test_a_killed_process_leaves_a_state_folder_that_the_next_one_can_use(
    run: Any, serve: Any, tmp_path: Any
) -> None:
    home = tmp_path / "state"
    identifiers = set()
    for _ in range(3):
        serving = serve("node", "--listen", ANY, "--trust-everyone", "--output", "json", home=home)
        identifiers.add(serving.event("ready")["identifier"])
        assert serving.stop(signal.SIGKILL) == -signal.SIGKILL
    assert len(identifiers) == 1
    assert run("identity", "show", home=home).stdout.strip() == identifiers.pop()
