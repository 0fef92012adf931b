"""Endpoints and host:port pairs: what is read, what is printed, what an error says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockamlite.errors import UsageError
from ockamlite.routing.endpoint import (
    BARE_KINDS,
    KNOWN_KINDS,
    KNOWN_OPTIONS,
    Endpoint,
    HostPort,
    TextError,
)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("4000", "127.0.0.1", 4000),
        (":4000", "127.0.0.1", 4000),
        ("0", "127.0.0.1", 0),
        ("127.0.0.1:65535", "127.0.0.1", 65535),
        ("[::1]:4000", "::1", 4000),
        ("[2001:DB8:0::1]:1", "2001:db8::1", 1),
        ("[::ffff:127.0.0.1]:1", "::ffff:127.0.0.1", 1),
        ("[fe80::1%eth0.100]:1", "fe80::1%eth0.100", 1),
        ("localhost:4000", "localhost", 4000),
        ("relay.example:4000", "relay.example", 4000),
        ("my_host-1.x:1", "my_host-1.x", 1),
        ("a" * 63 + "." + "b" * 63 + ":1", "a" * 63 + "." + "b" * 63, 1),
    ],
)
def test_a_host_and_a_port_are_read(text: str, host: str, port: int) -> None:
    found = HostPort.parse(text)
    assert (found.host, found.port) == (host, port)
    assert HostPort.parse(str(found)) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "host",
        "host:",
        "host:65536",
        "host:-1",
        "host:+1",
        "host:1x",
        "host:¹",
        "host: 1",
        "host:000001",
        "host:" + "9" * 5000,
        "::1:4000",
        "[::1]",
        "[::1:4000",
        "[127.0.0.1]:1",
        "[::g]:1",
        "[]:1",
        "[fe80::1%]:1",
        "[fe80::1%a b]:1",
        "[fe80::1%a/b]:1",
        "-host:1",
        "host-:1",
        ".host:1",
        "host.:1",
        "a..b:1",
        "höst:1",
        "ho st:1",
        "host/x:1",
        "user@host:1",
        "a" * 64 + ":1",
        ".".join(["a" * 49] * 6) + ":1",
        "tcp://host:1",
        "\udcff:1",
    ],
)
def test_what_is_no_host_and_port_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        HostPort.parse(text)


@pytest.mark.parametrize("text", ["0.0.0.0:4000", "[::]:4000", "[0::0]:4000"])
def test_every_address_of_the_machine_is_for_listeners(text: str) -> None:
    with pytest.raises(UsageError, match="every address"):
        HostPort.parse(text)
    assert HostPort.parse(text, allow_any_host=True).is_any_host


def test_an_ip6_address_is_printed_in_brackets() -> None:
    assert str(HostPort("::1", 4000)) == "[::1]:4000"
    assert str(HostPort("127.0.0.1", 4000)) == "127.0.0.1:4000"


@pytest.mark.parametrize(
    ("host", "port"), [("", 1), ("a b", 1), ("a", 65536), ("a", -1), ("[::1]", 1), ("1:2", 1)]
)
def test_no_pair_is_made_that_could_not_be_read_back(host: str, port: int) -> None:
    with pytest.raises(UsageError):
        HostPort(host, port)


@pytest.mark.parametrize(
    ("text", "kind", "details", "options"),
    [
        ("tcp:127.0.0.1:4000", "tcp", "127.0.0.1:4000", ()),
        ("tcp:[::1]:4000", "tcp", "[::1]:4000", ()),
        ("tcp:0.0.0.0:0", "tcp", "0.0.0.0:0", ()),
        ("tcp:4000", "tcp", "4000", ()),
        ("udp:host:4000", "udp", "host:4000", ()),
        ("serial:/dev/ttyUSB0?baud=115200", "serial", "/dev/ttyUSB0", (("baud", "115200"),)),
        ("serial:./a?parity=even&baud=9600", "serial", "./a", (("parity", "even"), ("baud", "9600"))),
        ("serial:./a?flow=", "serial", "./a", (("flow", ""),)),
        ("serial:./a?flow=a=b?c", "serial", "./a", (("flow", "a=b?c"),)),
        ("serial:./a?flow=%26%2C%20%25%3E", "serial", "./a", (("flow", "&, %>"),)),
        ("ble:pi-cabinet", "ble", "pi-cabinet", ()),
        ("ble:5b:8e:2b:e2:6f:dc", "ble", "5b:8e:2b:e2:6f:dc", ()),
        ("ble:K%C3%BCche", "ble", "Küche", ()),
        ("pty:./console", "pty", "./console", ()),
        ("unix:/run/a%20b%2Cc%25%3Fd%0A.sock", "unix", "/run/a b,c%?d\n.sock", ()),
        ("unix:/a=%3Eb", "unix", "/a=>b", ()),
        ("unix:it's;$(x)*&#>", "unix", "it's;$(x)*&#>", ()),
        ("stdio", "stdio", "", ()),
    ],
)
def test_an_endpoint_is_printed_as_it_was_read(
    text: str, kind: str, details: str, options: tuple[tuple[str, str], ...]
) -> None:
    endpoint = Endpoint.parse(text)
    assert endpoint == Endpoint(kind, details, options)
    assert str(endpoint) == text


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("ble:Küche", "ble:K%C3%BCche"),
        ("unix:%2frun", "unix:/run"),
        ("unix:a%3fb", "unix:a%3Fb"),
        ("stdio:", "stdio"),
    ],
)
def test_other_spellings_are_read_and_printed_in_one_way(text: str, printed: str) -> None:
    assert str(Endpoint.parse(text)) == printed


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("", 1, "'' is not KIND:DETAILS"),
        ("tcp", 1, "'tcp' is not KIND:DETAILS"),
        ("tpc:host:1", 1, "unknown kind 'tpc'; known kinds: ble, .* unix, websocket$"),
        ("TCP:host:1", 1, "unknown kind 'TCP'"),
        (":host", 1, "not KIND:DETAILS"),
        ("tcp:", 5, "needs details"),
        ("stdio:x", 7, "takes no details"),
        ("tcp:host", 5, "does not end in a port"),
        ("unix:a b", 7, "' ' must be written %20"),
        ("unix:a,b", 7, "',' must be written %2C"),
        ("unix:\tb", 6, "must be written %09"),
        ("unix:b\x7f", 7, "must be written %7F"),
        ("unix:b\u2028", 7, "must be written %E2%80%A8"),
        ("unix:a%", 7, "two hex digits"),
        ("unix:a%2", 7, "two hex digits"),
        ("unix:a%2G", 7, "two hex digits"),
        ("unix:%+1", 6, "two hex digits"),
        ("unix:a%FF", 6, "not UTF-8"),
        ("unix:a\udcff", 7, "not UTF-8"),
        (
            "serial:/d?speed=1",
            11,
            "unknown option 'speed'; known options: baud, bits, flow, parity, rtscts, stop",
        ),
        ("serial:/d?baud=1&speed=1", 18, "unknown option 'speed'"),
        ("serial:/d?baud=1&baud=2", 18, "option baud stands twice"),
        ("serial:/d?baud", 11, "option baud has no value"),
        ("serial:/d?baud=1&", 18, "unknown option ''"),
        ("serial:/d?baud= 1", 16, "must be written %20"),
        ("serial:/d?", 11, "unknown option ''"),
        ("tcp:host:1?baud=1", 12, "unknown option 'baud'; tcp has no options"),
        ("stdio?x=1", 7, "stdio has no options"),
    ],
)
def test_an_error_says_where_and_why(text: str, column: int, reason: str) -> None:
    with pytest.raises(TextError, match=reason) as caught:
        Endpoint.parse(text)
    assert caught.value.column == column
    assert str(caught.value).startswith(f"endpoint, column {column}: ")


def test_kinds_and_options_are_those_that_are_given() -> None:
    endpoint = Endpoint.parse("pigeon:loft?ring=7", kinds=["pigeon"], options={"pigeon": ["ring"]})
    assert endpoint == Endpoint("pigeon", "loft", (("ring", "7"),))
    with pytest.raises(UsageError, match="unknown kind 'tcp'; known kinds: pigeon"):
        Endpoint.parse("tcp:1", kinds=["pigeon"])
    assert set(KNOWN_OPTIONS) < set(KNOWN_KINDS)
    assert set(KNOWN_KINDS) > BARE_KINDS


def test_the_details_of_tcp_and_udp_are_a_host_and_a_port() -> None:
    assert Endpoint.parse("tcp:[::1]:4000").host_port == HostPort("::1", 4000)
    assert Endpoint.parse("udp:0.0.0.0:1").host_port == HostPort("0.0.0.0", 1)
    with pytest.raises(UsageError):
        _ = Endpoint("ble", "pi").host_port


@pytest.mark.parametrize(
    ("kind", "details", "options"),
    [
        ("", "x", ()),
        ("a b", "x", ()),
        ("a:b", "x", ()),
        ("Tcp", "x", ()),
        ("tcp", "x", ()),
        ("ble", "", ()),
        ("stdio", "x", ()),
        ("ble", "\ud800", ()),
        ("ble", "x", (("", "1"),)),
        ("ble", "x", (("a", "1"), ("a", "2"))),
        ("ble", "x", (("a", "\ud800"),)),
    ],
)
def test_no_endpoint_is_made_that_could_not_be_read_back(
    kind: str, details: str, options: tuple[tuple[str, str], ...]
) -> None:
    with pytest.raises(UsageError):
        Endpoint(kind, details, options)


TEXTS = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from(",:%?&=> /#"), min_size=1, max_size=12
)


@given(TEXTS, st.dictionaries(TEXTS, TEXTS | st.just(""), max_size=3))
def test_every_endpoint_comes_back(details: str, options: dict[str, str]) -> None:
    endpoint = Endpoint("pigeon", details, tuple(options.items()))
    text = str(endpoint)
    assert Endpoint.parse(text, kinds=["pigeon"], options={"pigeon": list(options)}) == endpoint
    assert text.isascii()
    assert text.isprintable()
    assert not set(text) & set(", ")
    assert "=>" not in text


@given(st.text(st.characters() | st.sampled_from("tcpserialstdio:?=&%0[]., "), max_size=20))
def test_any_text_is_an_endpoint_or_a_usage_error(text: str) -> None:
    for candidate in (text, "serial:" + text, "tcp:" + text, "serial:/d?" + text, "stdio" + text):
        try:
            endpoint = Endpoint.parse(candidate)
        except UsageError:
            continue
        assert Endpoint.parse(str(endpoint)) == endpoint
