"""Programs of this world through inlet and outlet: HTTP clients, ssh, git."""

from __future__ import annotations

import getpass
import http.client
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ANY = "tcp:127.0.0.1:0"
FILE = secrets.token_bytes(300_000)


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    """A web service; its endpoint."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(FILE)))
            self.end_headers()
            self.wfile.write(FILE)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"tcp:127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(port: int) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read()
    finally:
        connection.close()


@pytest.fixture
def portal(serve: Any, homes: Any, port_of: Any) -> Any:
    """Start an outlet and an inlet that allow each other; return both, ready."""

    def start(target: str, outlet: list[str], inlet: list[str]) -> tuple[Any, Any, int]:
        (home, pi), (other_home, laptop) = homes["pi"], homes["laptop"]
        offered = serve(
            "outlet", target, "--listen", ANY, *outlet, "--allow", laptop, "--output", "json", home=home
        )
        at = offered.event("ready")["listening"][0]
        way = [argument.replace("AT", at) for argument in inlet]
        wanted = serve("inlet", ANY, *way, "--allow", pi, "--output", "json", home=other_home)
        return offered, wanted, port_of(wanted.event("ready"))

    return start


def test_a_file_comes_whole_and_both_ends_tell_of_it(portal: Any, web: str, homes: Any) -> None:
    outlet, inlet, port = portal(web, [], ["--via", "AT"])
    assert fetch(port) == FILE
    opened, closed = inlet.event("session-open"), inlet.event("session-close")
    assert opened["peer"] == homes["pi"][1]
    assert opened["client"].startswith("127.0.0.1:")
    assert "target" not in opened
    assert closed["session"] == opened["session"]
    assert closed["received_bytes"] > len(FILE) > closed["sent_bytes"] > 0
    assert closed["seconds"] >= 0
    assert closed["reason"]
    target = outlet.event("session-open")
    assert (target["peer"], target["target"]) == (homes["laptop"][1], web)
    assert "client" not in target
    assert outlet.event("session-close")["sent_bytes"] == closed["received_bytes"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl: apt-get install curl")
def test_curl_works_with_the_whole_route_given(portal: Any, web: str) -> None:
    whole = "AT,secure:listener,web"
    _, _, port = portal(web, ["--service", "web", "--listener", "listener"], ["--to", whole])
    url = f"http://127.0.0.1:{port}/"
    done = subprocess.run(["curl", "-q", "-sS", "--noproxy", "*", url], capture_output=True, check=True)
    assert done.stdout == FILE


@pytest.mark.parametrize("secure", ["", ",secure:secure_channel_listener"], ids=["in clear", "secure"])
def test_a_page_comes_through_a_relay(serve: Any, homes: Any, port_of: Any, web: str, secure: str) -> None:
    (home, pi), (other_home, laptop) = homes["pi"], homes["laptop"]
    only_pi = ["--allow-register", pi] if secure else []
    relay = serve("relay", "--listen", ANY, *only_pi, "--output", "json")
    ready = relay.event("ready")
    at = f"{ready['listening'][0]}{secure}"
    known = ["--allow-relay", ready["identifier"]] if secure else []
    through = ["--relay", at, "--name", "pi", *known, "--output", "json"]
    outlet = serve("outlet", web, *through, "--allow", laptop, home=home)
    offered = outlet.event("ready")
    assert offered["relays"] == [{"at": at, "address": "forward_to_pi"}]
    assert offered["listening"] == []
    assert outlet.event("relay-registered")["address"] == "forward_to_pi"
    inlet = serve("inlet", ANY, *through, "--allow", pi, home=other_home)
    wanted = inlet.event("ready")
    assert wanted["relays"] == offered["relays"]
    assert fetch(port_of(wanted)) == FILE
    if secure:
        clear = serve("outlet", web, "--relay", ready["listening"][0], "--name", "x", "--insecure")
        assert "not among those" in relay.event("refused")["reason"]
        assert clear.process.poll() is None


def test_a_relay_that_is_not_allowed_gets_neither_a_registration_nor_a_client(
    serve: Any, homes: Any, web: str
) -> None:
    relay = serve("relay", "--listen", ANY, "--output", "json")
    ready = relay.event("ready")
    at = f"{ready['listening'][0]},secure:secure_channel_listener"
    through = ["--relay", at, "--name", "pi", "--trust-everyone", "--allow-relay", homes["stranger"][1]]
    outlet = serve("outlet", web, *through)
    inlet = serve("inlet", ANY, *through)
    for end in (outlet, inlet):
        assert f"{ready['identifier']} is not trusted" in end.line_with(at)
    assert outlet.stop() == 0
    assert outlet.rest("stdout") == ""


def test_an_outlet_waits_for_its_relay_and_says_why(serve: Any, homes: Any, web: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        at = f"tcp:127.0.0.1:{taken.getsockname()[1]}"
    outlet = serve("outlet", web, "--relay", at, "--name", "pi", "--trust-everyone")
    assert "connection refused" in outlet.line_with(at)
    relay = serve("relay", "--listen", at)
    relay.line()
    assert outlet.line() == f"ready: outlet pi via {at} -> {web}"


def test_without_its_outlet_a_client_is_closed_and_the_next_is_tried_afresh(
    serve: Any, homes: Any, port_of: Any, web: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        at = f"tcp:127.0.0.1:{taken.getsockname()[1]}"
    inlet = serve("inlet", ANY, "--to", f"{at},outlet", "--output", "json")
    port = port_of(inlet.event("ready"))
    with socket.create_connection(("127.0.0.1", port), timeout=12) as client:
        outlet = serve("outlet", "tcp:127.0.0.1:1", "--listen", at, "--insecure", "--quiet")
        outlet.line()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert inlet.event("refused")["reason"]
    assert outlet.stop() == 0
    again = serve("outlet", web, "--listen", at, "--insecure")
    again.line()
    assert fetch(port) == FILE


def test_a_peer_that_is_not_allowed_reaches_nothing(serve: Any, homes: Any, run: Any, web: str) -> None:
    (home, pi), (other_home, _) = homes["pi"], homes["stranger"]
    outlet = serve(
        "outlet", web, "--listen", ANY, "--allow", homes["laptop"][1], "--output", "json", home=home
    )
    at = outlet.event("ready")["listening"][0]
    whole = f"{at},secure:secure_channel_listener,outlet"
    done = run("send", whole, "--hex", "00", "--timeout", "1", "--allow", pi, home=other_home)
    assert done.returncode == 75
    assert outlet.event("refused")["peer"] == homes["stranger"][1]


def test_insecure_alone_offers_no_secure_channel(serve: Any, run: Any, port_of: Any, web: str) -> None:
    outlet = serve("outlet", web, "--listen", ANY, "--insecure", "--output", "json")
    at = outlet.event("ready")["listening"][0]
    secure = f"{at},secure:secure_channel_listener,echo"
    assert run("send", secure, "x", "--timeout", "1", "--trust-everyone").returncode == 75
    inlet = serve("inlet", ANY, "--to", f"{at},outlet", "--output", "json")
    assert fetch(port_of(inlet.event("ready"))) == FILE


def test_ipv6_and_names_work_in_every_place(serve: Any, homes: Any, port_of: Any) -> None:
    try:
        service = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    (home, pi), (other_home, laptop) = homes["pi"], homes["laptop"]
    with service:
        relay = serve("relay", "--listen", "tcp:[::1]:0", "--output", "json").event("ready")["listening"][0]
        target = f"tcp:[::1]:{service.getsockname()[1]}"
        through = ["--relay", relay.replace("[::1]", "localhost"), "--name", "pi", "--output", "json"]
        if not any(found[4][0] == "::1" for found in socket.getaddrinfo("localhost", None)):
            through[1] = relay
        serve("outlet", target, *through, "--allow", laptop, home=home).event("ready")
        inlet = serve("inlet", "tcp:[::1]:0", *through, "--allow", pi, home=other_home).event("ready")
        assert inlet["listening"][0].startswith("tcp:[::1]:")
        with socket.create_connection(("::1", port_of(inlet)), timeout=12) as client:
            reached, _ = service.accept()
            with reached:
                client.sendall(b"over IPv6")
                assert reached.recv(100) == b"over IPv6"


def test_of_several_ways_the_first_that_is_open_is_used(serve: Any, port_of: Any, web: str) -> None:
    outlet = serve("outlet", web, "--listen", ANY, "--insecure", "--output", "json")
    at = outlet.event("ready")["listening"][0]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        first = f"tcp:127.0.0.1:{taken.getsockname()[1]}"
    ways = ["--to", f"{first},outlet", "--to", f"{at},outlet"]
    inlet = serve("inlet", ANY, *ways, "--output", "json")
    ready = inlet.event("ready")
    assert ready["routes"] == [f"{first},outlet", f"{at},outlet"]
    assert fetch(port_of(ready)) == FILE
    changed = inlet.event("route-changed")
    assert (changed["from"], changed["to"]) == (f"{first},outlet", f"{at},outlet")
    assert "connection refused" in changed["reason"]


def test_ways_keep_the_order_in_which_they_are_given(serve: Any) -> None:
    ways = ["--to", "tcp:127.0.0.1:1,a", "--via", "tcp:127.0.0.1:2", "--to", "tcp:127.0.0.1:3,c"]
    inlet = serve(
        "inlet", ANY, *ways, "--trust-everyone", "--output", "json", OCKAMLITE_TO="tcp:127.0.0.1:4,d"
    )
    routes = inlet.event("ready")["routes"]
    assert [route.partition(",")[0] for route in routes] == [f"tcp:127.0.0.1:{n}" for n in (1, 2, 3)]


def test_a_node_in_the_middle_forwards_only_where_it_is_told(serve: Any, run: Any) -> None:
    end = serve("node", "--insecure", "--output", "json").event("ready")["listening"][0]
    silent = serve("relay", "--listen", ANY, "--output", "json").event("ready")["listening"][0]
    forwards = serve("relay", "--listen", ANY, "--forward", end, "--output", "json")
    told = forwards.event("ready")["listening"][0]
    assert run("send", f"{told},{end},uppercase", "x").stdout == "X\n"
    assert run("send", f"{silent},{end},uppercase", "x", "--timeout", "0.5").returncode == 75


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[tuple[int, list[str]]]:
    """A private sshd on loopback; its port, and the options for a client."""
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None or shutil.which("ssh") is None:
        pytest.skip("needs ssh and sshd: apt-get install openssh-server openssh-client")
    for name in ("host", "user"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True
        )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {tmp_path}/host\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {tmp_path}/user.pub\nStrictModes no\nPermitRootLogin yes\n"
        "PasswordAuthentication no\n"
    )
    command = [program, "-D", "-e", "-f", str(tmp_path / "config")]
    if os.geteuid() == 0 and not Path("/run/sshd").is_dir():
        # As root it wants this folder; it gets one that nobody else sees.
        inner = 'mount -t tmpfs none /run && mkdir /run/sshd && exec "$@"'
        command = ["unshare", "-m", "sh", "-c", inner, "sh", *command]
    with (tmp_path / "sshd.log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log)
    try:
        while "listening" not in (tmp_path / "sshd.log").read_text():
            if process.poll() is not None:
                pytest.skip(f"sshd does not start here: {(tmp_path / 'sshd.log').read_text()[:200]}")
        options = ["-F", "none", "-i", str(tmp_path / "user"), "-o", "BatchMode=yes"]
        options += ["-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={tmp_path}/known"]
        yield port, options
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.parametrize("through", ["link", "relay"])
def test_ssh_and_git_work_through_a_portal(
    portal: Any, serve: Any, sshd: Any, tmp_path: Path, through: str
) -> None:
    server, options = sshd
    outlet, inlet = [], ["--via", "AT"]
    if through == "relay":
        relay = serve("relay", "--listen", ANY, "--output", "json").event("ready")["listening"][0]
        outlet = inlet = ["--relay", relay, "--name", "pi"]
    _, _, port = portal(f"tcp:127.0.0.1:{server}", outlet, inlet)
    there = f"{getpass.getuser()}@127.0.0.1"
    said = subprocess.run(
        ["ssh", *options, "-p", str(port), there, "cat; echo done"],
        input=FILE, capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    assert said.stdout == FILE + b"done\n", said.stderr
    if shutil.which("git") is None:
        pytest.skip("needs git: apt-get install git")
    source = tmp_path / "source"
    environment = os.environ | {
        "GIT_SSH_COMMAND": " ".join(["ssh", *options]),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    who = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
    subprocess.run(["git", "init", "-q", str(source)], env=environment, check=True)
    (source / "file").write_bytes(FILE)
    subprocess.run(["git", *who, "-C", str(source), "add", "file"], env=environment, check=True)
    subprocess.run(["git", *who, "-C", str(source), "commit", "-qm", "x"], env=environment, check=True)
    url = f"ssh://{there}:{port}{source}"
    subprocess.run(
        ["git", "clone", "-q", url, str(tmp_path / "copy")], env=environment, timeout=60, check=True
    )
    assert (tmp_path / "copy" / "file").read_bytes() == FILE


def test_the_ready_event_of_an_outlet_says_what_it_dials(serve: Any) -> None:
    outlet = serve("outlet", "tcp:localhost:22", "--listen", ANY, "--insecure", "--output", "json")
    assert json.loads(outlet.line())["target"] == "tcp:localhost:22"


def test_the_ready_lines_of_both_ends_read_the_same_way(serve: Any, web: str) -> None:
    relay = serve("relay", "--listen", ANY, "--output", "json")
    (at,) = relay.event("ready")["listening"]
    by_name = ("--relay", at, "--name", "pi", "--trust-everyone")
    assert serve("outlet", web, *by_name).line() == f"ready: outlet pi via {at} -> {web}"
    assert serve("inlet", ANY, *by_name).line().endswith(f" -> pi via {at}")
    named = serve("outlet", web, "--listen", ANY, "--insecure", "--service", "a\nb#c")
    assert re.fullmatch(rf"ready: outlet tcp:127.0.0.1:\d+ -> {web} as a%0Ab#c", named.line())
