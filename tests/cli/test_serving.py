"""Commands that serve: their ready line, their events, their logs, their end."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

ANY = "tcp:127.0.0.1:0"


def test_the_ready_line_of_a_relay_names_its_port(serve: Any) -> None:
    serving = serve("relay", "--listen", ANY)
    line = serving.line()
    assert line.startswith("ready: relay tcp:127.0.0.1:")
    port = int(line.rpartition(":")[2])
    socket.create_connection(("127.0.0.1", port)).close()
    assert serving.stop() == 0
    assert serving.rest("stdout") == ""


def test_the_ready_line_of_an_inlet_does_not_wait_for_its_outlet(serve: Any) -> None:
    serving = serve("inlet", ANY, "--relay", "tcp:127.0.0.1:1", "--name", "pi", "--trust-everyone")
    line = serving.line()
    assert line.startswith("ready: inlet tcp:127.0.0.1:")
    assert line.endswith(" -> pi via tcp:127.0.0.1:1")


@pytest.mark.parametrize(
    ("arguments", "service"),
    [
        (["relay", "--listen", ANY], None),
        (["node", "--trust-everyone", "--listen", ANY], "uppercase"),
        (["outlet", "tcp:127.0.0.1:22", "--trust-everyone", "--listen", ANY, "--service", "ssh"], "ssh"),
        (["inlet", ANY, "--via", "tcp:127.0.0.1:1", "--trust-everyone"], "outlet"),
    ],
    ids=["relay", "node", "outlet", "inlet"],
)
def test_the_ready_event_has_its_keys(serve: Any, homes: Any, arguments: list[str], service: str) -> None:
    home, identifier = homes["pi"]
    serving = serve(*arguments, "--output", "json", home=home)
    ready = json.loads(serving.line())
    assert ready["event"] == "ready"
    assert ready["command"] == arguments[0]
    assert ready["pid"] == serving.process.pid
    assert ready["identifier"] == identifier
    assert ready["relays"] == []
    assert ready["service"] == service
    assert abs(datetime.fromisoformat(ready["time"]).timestamp() - time.time()) < 60
    (at,) = ready["listening"]
    socket.create_connection(("127.0.0.1", int(at.rpartition(":")[2]))).close()
    assert serving.stop(signal.SIGINT) == 0


def test_several_endpoints_are_listened_on(serve: Any) -> None:
    serving = serve("relay", "--listen", ANY, "--listen", "tcp:[::1]:0", "--output", "json")
    kinds = [at.rpartition(":")[0] for at in serving.event("ready")["listening"]]
    assert kinds == ["tcp:127.0.0.1", "tcp:[::1]"]


def test_options_come_from_the_environment_and_flags_win(serve: Any, run: Any, homes: Any) -> None:
    allowed = f"{homes['laptop'][1]} {homes['stranger'][1]}"
    serving = serve(
        "node", "--output", "json",
        OCKAMLITE_ALLOW=allowed, OCKAMLITE_OUTPUT="text", OCKAMLITE_LISTEN=f"{ANY} {ANY}",
    )  # fmt: skip
    ready = serving.event("ready")
    assert len(ready["listening"]) == 2
    route = f"{ready['listening'][0]},secure:secure_channel_listener,uppercase"
    for who in ("laptop", "stranger"):
        given = {"OCKAMLITE_ALLOW": ready["identifier"], "OCKAMLITE_TIMEOUT": "5"}
        assert run("send", route, "x", home=homes[who][0], **given).stdout == "X\n"
    # A flag puts aside what the environment says to the same question.
    done = run(
        "send", route, "x", "--allow", homes["pi"][1], home=homes["laptop"][0], OCKAMLITE_TRUST_EVERYONE="1"
    )
    assert done.returncode == 77


@pytest.mark.parametrize("command", ["relay", "inlet"])
def test_a_port_in_use_names_its_holder(serve: Any, run: Any, command: str) -> None:
    serving = serve("relay", "--listen", ANY, "--output", "json")
    (at,) = serving.event("ready")["listening"]
    arguments = {"relay": ["--listen", at], "inlet": [at, "--via", "tcp:127.0.0.1:1", "--trust-everyone"]}
    done = run(command, *arguments[command])
    assert (done.returncode, done.stdout) == (69, "")
    assert f"port {at.rpartition(':')[2]} is in use by " in done.stderr
    assert f"(pid {serving.process.pid})" in done.stderr


def test_links_are_told_as_events_and_in_text_as_log_lines(serve: Any, run: Any) -> None:
    serving = serve("relay", "--listen", ANY, "--output", "json")
    at = serving.event("ready")["listening"][0]
    assert run("send", f"{at},echo", "x").stdout == "x\n"
    up, down = serving.event("link-up"), serving.event("link-down")
    assert up["link"] == down["link"] == at
    assert up["remote"] == down["remote"]
    assert up["reason"] is None
    assert down["reason"]
    assert serving.stop() == 0
    assert serving.rest("stderr") == ""
    in_text = serve("relay", "--listen", ANY)
    at = in_text.line().removeprefix("ready: relay ")
    run("send", f"{at},echo", "x")
    in_text.line_with("link up")
    in_text.line_with("link down")
    assert in_text.stop() == 0
    assert in_text.rest("stdout") == ""


def test_an_event_reader_that_does_not_read_does_not_hold_up_the_node(homes: Any, run: Any) -> None:
    environment = {"OCKAMLITE_HOME": str(homes["pi"][0]), "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-m", "ockamlite", "relay", "--listen", ANY, "--output", "json"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        at = json.loads(process.stdout.readline())["listening"][0]
        port = int(at.rpartition(":")[2])
        for _ in range(600):  # some 150 bytes each up and down: more than a pipe holds
            socket.create_connection(("127.0.0.1", port)).close()
        assert run("send", f"{at},echo", "x").stdout == "x\n"
        process.terminate()
        assert process.wait(10) == 0
        process.stdout.close()
    finally:
        process.kill()
        process.wait()


def test_a_reader_that_has_gone_does_not_end_what_serves(serve: Any, run: Any, homes: Any) -> None:
    environment = {"OCKAMLITE_HOME": str(homes["pi"][0]), "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-m", "ockamlite", "relay", "--listen", ANY, "--output", "json"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    at = json.loads(process.stdout.readline())["listening"][0]
    process.stdout.close()
    for _ in range(2):
        assert run("send", f"{at},echo", "x").stdout == "x\n"
    process.terminate()
    assert process.wait(10) == 0
    assert process.stderr.read() == b""
    process.stderr.close()


def test_peers_are_told_and_it_ends_within_two_seconds(serve: Any) -> None:
    serving = serve("relay", "--listen", ANY, "--output", "json")
    port = int(serving.event("ready")["listening"][0].rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as peer:
        peer.sendall(b"\x01")
        assert peer.recv(1) == b"\x01"
        began = time.monotonic()
        assert serving.stop() == 0
        assert time.monotonic() - began < 2
        assert peer.recv(1) == b""


def test_warnings_come_once_and_quiet_silences_them(serve: Any) -> None:
    loud = serve("node", "--listen", ANY, "--trust-everyone", "--insecure")
    loud.line()
    assert loud.stop() == 0
    said = loud.rest("stderr")
    assert said.count("--trust-everyone") == 1
    assert said.count("--insecure") == 1
    quiet = serve("node", "--listen", ANY, "--trust-everyone", "--insecure", "--quiet")
    quiet.line()
    assert quiet.stop() == 0
    assert quiet.rest("stderr") == ""


def test_v_logs_more_and_vv_every_frame_without_its_payload(serve: Any, run: Any) -> None:
    said = {}
    for loud in ("", "-v", "-vv"):
        serving = serve("node", "--listen", ANY, "--insecure", *filter(None, [loud]), "--output", "json")
        at = serving.event("ready")["listening"][0]
        assert run("send", f"{at},uppercase", "canary").stdout == "CANARY\n"
        assert serving.stop() == 0
        said[loud] = serving.rest("stderr")
        assert "canary" not in said[loud].lower()
    assert "info: " not in said[""]
    assert "info: " in said["-v"]
    assert "debug: " not in said["-v"]
    came, went = (line for line in said["-vv"].splitlines() if " bytes, payload 7, " in line)
    assert "debug: < 127.0.0.1:" in came
    assert came.endswith(" to 0#uppercase")
    assert "debug: > 127.0.0.1:" in went


def test_logs_for_machines_are_json_lines(serve: Any) -> None:
    serving = serve("node", "--listen", ANY, "--trust-everyone", "-vv", "--log-format", "json")
    serving.line()
    assert serving.stop() == 0
    lines = [json.loads(line) for line in serving.rest("stderr").splitlines()]
    assert lines
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colour_is_for_terminals_that_want_it(homes: Any, no_color: str, coloured: bool) -> None:
    ours, theirs = pty.openpty()
    environment = {
        "OCKAMLITE_HOME": str(homes["pi"][0]),
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "TERM": "xterm",
        "NO_COLOR": no_color,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "ockamlite", "node", "--listen", ANY, "--trust-everyone"],
        env=environment, stdout=subprocess.DEVNULL, stderr=theirs,
    )  # fmt: skip
    shown = os.read(ours, 1000)
    process.terminate()
    assert process.wait(10) == 0
    os.close(ours)
    os.close(theirs)
    assert (b"\x1b[" in shown) == coloured
    assert b"warning" in shown
