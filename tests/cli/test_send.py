"""``ockamlite send`` against a node, and against everything that can go wrong."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from datetime import datetime
from typing import Any

import pytest

SECURE = "secure:secure_channel_listener"


@pytest.fixture(scope="module")
def node(serve_all: Any, homes: Any) -> tuple[str, str]:
    """Endpoint and identifier of a node that allows the laptop."""
    home, identifier = homes["pi"]
    serving = serve_all("node", "--allow", homes["laptop"][1], "--output", "json", home=home)
    return serving.event("ready")["listening"][0], identifier


def test_text_goes_as_a_string_both_ways(run: Any, node: Any, homes: Any) -> None:
    at, identifier = node
    done = run("send", f"{at},{SECURE},uppercase", "grüße", "--allow", identifier, home=homes["laptop"][0])
    assert (done.returncode, done.stdout, done.stderr) == (0, "GRÜSSE\n", "")


def test_echo_answers_in_clear_hex_and_raw(run: Any, node: Any) -> None:
    assert run("send", f"{node[0]},echo", "hello").stdout == "hello\n"
    assert run("send", f"{node[0]},echo", "00 ff", "--hex").stdout == "00ff\n"
    assert run("send", f"{node[0]},echo", "exact", "--raw").stdout == "exact"


def test_a_dash_reads_stdin(run: Any, node: Any) -> None:
    assert run("send", f"{node[0]},echo", "-", given=b"from a pipe\n").stdout == "from a pipe\n"
    assert run("send", f"{node[0]},echo", "-", "--raw", given=b"a\n\n").stdout == "a\n\n"


def test_routes_pasted_from_ockam_are_understood(run: Any, node: Any) -> None:
    port = node[0].rpartition(":")[2]
    assert run("send", f"/ip4/127.0.0.1/tcp/{port}/service/echo", "hi").stdout == "hi\n"
    assert run("send", f"1#127.0.0.1:{port} => 0#echo", "hi").stdout == "hi\n"


def test_json_of_a_reply_has_its_keys(run: Any, node: Any, homes: Any) -> None:
    at, identifier = node
    route = f"{at},{SECURE},uppercase"
    done = run("send", route, "x", "--allow", identifier, "--output", "json", home=homes["laptop"][0])
    reply = json.loads(done.stdout)
    assert reply["event"] == "reply"
    assert reply["text"] == "X"
    assert reply["peer"] == identifier
    assert "uppercase" in reply["return_route"]
    assert 0 < reply["rtt_ms"] < 10_000
    assert datetime.fromisoformat(reply["time"]).tzinfo is not None
    plain = json.loads(run("send", f"{at},echo", "00", "--hex", "--output", "json").stdout)
    assert (plain["hex"], plain["peer"]) == ("00", None)


def test_a_peer_that_we_do_not_allow_ends_with_77(run: Any, node: Any, homes: Any) -> None:
    at, identifier = node
    wrong = homes["stranger"][1]
    done = run("send", f"{at},{SECURE},uppercase", "x", "--allow", wrong, home=homes["laptop"][0])
    assert (done.returncode, done.stdout) == (77, "")
    assert identifier in done.stderr


def test_a_peer_that_does_not_allow_us_is_an_answer_that_does_not_come(
    run: Any, node: Any, homes: Any
) -> None:
    done = run(
        "send", f"{node[0]},{SECURE},uppercase", "x",
        "--trust-everyone", "--timeout", "1", home=homes["stranger"][0],
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (75, "")
    assert "may not trust us" in done.stderr


def test_a_service_for_those_who_are_allowed_is_closed_in_clear(run: Any, node: Any) -> None:
    began = time.monotonic()
    done = run("send", f"{node[0]},uppercase", "x", "--timeout", "0.5")
    assert (done.returncode, done.stdout) == (75, "")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("host", "reason"), [("127.0.0.1:1", "connection refused"), ("no.such.invalid:1", "host unknown")]
)
def test_a_peer_that_cannot_be_reached_ends_with_69(run: Any, host: str, reason: str) -> None:
    done = run("send", f"tcp:{host},echo", "x")
    assert (done.returncode, done.stdout) == (69, "")
    assert reason in done.stderr


def test_a_peer_that_speaks_something_else_ends_with_76(run: Any, tcp_server: Any) -> None:
    port = tcp_server(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH\r\n") or connection.recv(99))
    began = time.monotonic()
    done = run("send", f"tcp:127.0.0.1:{port},echo", "x")
    assert (done.returncode, done.stdout) == (76, "")
    assert time.monotonic() - began < 5


def test_a_peer_that_hangs_up_is_noticed_at_once(run: Any, tcp_server: Any) -> None:
    port = tcp_server(lambda connection: connection.shutdown(socket.SHUT_RDWR))
    began = time.monotonic()
    done = run("send", f"tcp:127.0.0.1:{port},echo", "x")
    assert (done.returncode, done.stdout) == (69, "")
    assert time.monotonic() - began < 5


def test_a_reply_that_is_no_string_ends_with_76(run: Any, tcp_server: Any) -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"\x01")
        received = connection.recv(4096)
        while len(received) < 20:
            received += connection.recv(4096)
        # [onward, return, payload]: ours back to the address that asked, with bytes that are no string.
        body = received[received.index(b"\x83") :]
        asked = body[body.rindex(b"\x82\x00\x4c") : body.rindex(b"\x82\x00\x4c") + 15]
        message = b"\x83\x81" + asked + b"\x80" + b"\x42\x05\x00"
        connection.sendall(len(message).to_bytes(4, "big") + message)
        connection.recv(1)

    done = run("send", f"tcp:127.0.0.1:{tcp_server(answer)},echo", "x", "--timeout", "5")
    assert (done.returncode, done.stdout) == (76, "")
    assert "try: --hex" in done.stderr


def test_what_a_peer_says_cannot_steer_a_terminal(node: Any, homes: Any) -> None:
    import os
    import pty
    import sys
    from pathlib import Path

    ours, theirs = pty.openpty()
    environment = {"OCKAMLITE_HOME": str(homes["pi"][0]), "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run(
        [sys.executable, "-m", "ockamlite", "send", f"{node[0]},echo", "a\x1b[31mb"],
        env=environment, stdout=theirs, check=True,
    )  # fmt: skip
    shown = os.read(ours, 100)
    os.close(ours)
    os.close(theirs)
    assert shown == b"a\\x1b[31mb\r\n"
