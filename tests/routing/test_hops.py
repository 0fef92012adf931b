"""Paths: the three forms that are read, the one that is printed, where an error points."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockamlite.errors import UsageError
from ockamlite.limits import LIMITS
from ockamlite.routing.address import Address
from ockamlite.routing.endpoint import Endpoint, TextError
from ockamlite.routing.hops import Hop, LinkHop, NameHop, SecureHop, format_hops, parse_hops, to_hops
from ockamlite.routing.multiaddr import MultiAddr, Part, Protocol


def link(kind: str, details: str = "", **options: str) -> LinkHop:
    return LinkHop(Endpoint(kind, details, tuple(options.items())))


HOST = link("tcp", "host:4000")
OUTLET = NameHop("outlet")


@pytest.mark.parametrize(
    ("text", "hops"),
    [
        ("outlet", (OUTLET,)),
        ("tcp:host:4000", (HOST,)),
        (
            "ble:pi-cabinet,tcp:10.0.0.7:4000,secure:secure_channel_listener,outlet",
            (
                link("ble", "pi-cabinet"),
                link("tcp", "10.0.0.7:4000"),
                SecureHop("secure_channel_listener"),
                OUTLET,
            ),
        ),
        ("ble:5b:8e:2b:e2:6f:dc,a", (link("ble", "5b:8e:2b:e2:6f:dc"), NameHop("a"))),
        (
            "serial:/dev/ttyUSB0?baud=9600&parity=even,a",
            (link("serial", "/dev/ttyUSB0", baud="9600", parity="even"), NameHop("a")),
        ),
        ("secure:a,secure:b", (SecureHop("a"), SecureHop("b"))),
        ("secure:a%3Ab%2C%20%25%C3%B6", (SecureHop("a:b, %ö"),)),
        ("secure", (NameHop("secure"),)),
        ("tcp", (NameHop("tcp"),)),
        ("stdio,a", (link("stdio"), NameHop("a"))),
        ("%73tdio,a", (NameHop("stdio"), NameHop("a"))),
        ("%73tdio?x", (NameHop("stdio?x"),)),
        ("a%2Cb%3Ac%25d%20e%0A%FF%00", (NameHop(b"a,b:c%d e\n\xff\0"),)),
        ("a#b,x/y?z=1&w,it's;*", (NameHop("a#b"), NameHop("x/y?z=1&w"), NameHop("it's;*"))),
        ("0%23a,%2Fservice,a=%3Eb", (NameHop("0#a"), NameHop("/service"), NameHop("a=>b"))),
        ("unix:/a=%3Eb,=,>", (link("unix", "/a=>b"), NameHop("="), NameHop(">"))),
    ],
)
def test_a_path_is_printed_as_it_was_read(text: str, hops: tuple[Hop, ...]) -> None:
    assert parse_hops(text) == hops
    assert format_hops(hops) == text


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("/dnsaddr/host/tcp/4000/secure/api/service/outlet", "tcp:host:4000,secure:api,outlet"),
        ("/ip4/10.0.0.7/udp/4000/worker/a/service/b", "udp:10.0.0.7:4000,a,b"),
        ("/ip6/::1/tcp/4000/service/a", "tcp:[::1]:4000,a"),
        ("/service/forward_to_x/secure/api/service/a b,c:d", "forward_to_x,secure:api,a%20b%2Cc%3Ad"),
        ("/service/a=>b", "a=%3Eb"),
        ("1#host:4000 => 0#outlet", "tcp:host:4000,outlet"),
        ("1#[::1]:4000", "tcp:[::1]:4000"),
        ("0#a", "a"),
        ("a=>b", "a,b"),
        ("  a =>\t0#b c,d  ", "a,b%20c%2Cd"),
        ("2#h:1=>3#h=>4#pi=>5#/run/x?y=>0#%41:b", "udp:h:1,websocket:h,ble:pi,unix:/run/x%3Fy,%2541%3Ab"),
        ("200#/dev/a%3Fb?baud=9600 => 0#a", "serial:/dev/a%3Fb?baud=9600,a"),
        ("0#a,1#h:1,0#b", "a,tcp:h:1,b"),
        ("tcp:h:1 => secure:api => 0#a", "tcp:h:1,secure:api,a"),
        ("größe", "gr%C3%B6%C3%9Fe"),
        ("%6futlet", "outlet"),
    ],
)
def test_the_forms_of_ockam_give_the_same_hops(text: str, printed: str) -> None:
    hops = parse_hops(text)
    assert format_hops(hops) == printed
    assert parse_hops(printed) == hops


@pytest.mark.parametrize(
    ("text", "hop", "column", "reason"),
    [
        ("", 1, 1, "empty"),
        (" \n", 1, 1, "empty"),
        (",", 1, 1, "the hop is empty"),
        ("a,", 2, 3, "the hop is empty"),
        (",a", 1, 1, "the hop is empty"),
        ("tcp:h:1,,a", 2, 9, "the hop is empty"),
        ("ble:pi-cabinet,,b", 2, 16, "the hop is empty"),
        ("ble:pi-cabinet,a:b", 2, 16, "unknown kind 'a'; known kinds: ble, .*tcp.*, secure"),
        ("ble:pi-cabinet,TCP:h:1", 2, 16, "unknown kind 'TCP'"),
        ("http://host/", 1, 1, "unknown kind 'http'"),
        (":a", 1, 1, "unknown kind ''"),
        ("a?b:c", 1, 1, "unknown kind"),
        ("ble:pi-cabinet,tcp:h", 2, 20, "does not end in a port"),
        ("a,tcp:h:1?baud=1,b", 2, 11, "tcp has no options"),
        ("a,serial:/d?baud=1&x=1", 2, 20, "unknown option 'x'"),
        ("a, b", 2, 3, "' ' must be written %20"),
        ("a,b c", 2, 4, "' ' must be written %20"),
        ("a,b\n", 2, 4, "must be written %0A"),
        (" a", 1, 1, "must be written %20"),
        ("a,b%", 2, 4, "two hex digits"),
        ("a,b%2,c", 2, 4, "two hex digits"),
        ("a,b%zz", 2, 4, "two hex digits"),
        ("a,ble:b%zz", 2, 8, "two hex digits"),
        ("a,secure:", 2, 10, "name of a listener"),
        ("a,secure:b:c", 2, 11, "':' must be written %3A"),
        ("a,secure:b%FF", 2, 10, "not UTF-8"),
        ("a,\udcff", 2, 3, "not UTF-8"),
        ("a,0#\udcff", 2, 3, "not UTF-8"),
        ("a,stdio:x", 2, 9, "takes no details"),
        ("a,9#b", 2, 3, "unknown transport type 9; known types: 0 .local., 1 .tcp."),
        ("a,200#", 2, 7, "serial needs details"),
        ("a,200#/d?baud=1&x=1", 2, 17, "unknown option 'x'"),
        ("a,256#b", 2, 3, "not a number from 0 to 255"),
        ("a,0#", 2, 3, "needs a name"),
        ("a,0#b#c", 2, 3, "more than one '#'"),
        ("1#host", 1, 1, "does not end in a port"),
        ("0#a => ", 2, 7, "the hop is empty"),
        ("0#a =>  => b", 2, 7, "the hop is empty"),
        ("0#a =>   x:y", 2, 10, "unknown kind 'x'"),
        ("0#a => b,c", 2, 9, "',' must be written %2C"),
        ("/", 1, 2, "unknown protocol ''"),
        ("/service/a/", 2, 12, "unknown protocol ''"),
        ("/dnsaddr/host/tcp/4000/secrue/api", 2, 24, "unknown protocol 'secrue'; known: dnsaddr, ip4"),
        ("/dnsaddr/host/tcp/40000000", 1, 19, "no port"),
        ("/dnsaddr/ho st/tcp/4000", 1, 16, "no host name"),
        ("/service/a/ip4/1.2.3.4.5/tcp/1", 2, 16, "no IPv4 address"),
        ("/service/a/ip4/1.2.3.4", 2, 23, "no tcp or udp port follows /ip4/1.2.3.4"),
        ("/ip4/1.2.3.4/service/a", 1, 14, "no tcp or udp port follows /ip4/1.2.3.4"),
        ("/ip4/1.2.3.4/ip4/1.2.3.4/tcp/1", 1, 14, "no tcp or udp port follows"),
        ("/service/a/tcp/1", 2, 12, "no host stands before /tcp/1"),
        ("/service/a/node/n/service/b", 2, 12, "/node/n is looked up in the state"),
        ("/project/p/service/b", 1, 2, "/project/p is looked up in the state"),
        ("/space/p", 1, 2, "/space/p is looked up in the state"),
        ("/service/a/service/", 2, 12, "needs a name"),
        ("/service/a/secure", 2, 12, "needs a name"),
        ("/service/a/service/\udcff", 2, 20, "not UTF-8"),
    ],
)
def test_an_error_says_hop_column_and_reason(text: str, hop: int, column: int, reason: str) -> None:
    with pytest.raises(TextError, match=reason) as caught:
        parse_hops(text)
    assert str(caught.value).startswith(f"route hop {hop}, column {column}: ")
    assert (caught.value.hop, caught.value.column) == (hop, column)


def test_a_path_has_a_bound() -> None:
    longest = ",".join(["a"] * LIMITS.route_hops)
    assert len(parse_hops(longest)) == LIMITS.route_hops
    with pytest.raises(TextError, match=f"route hop {LIMITS.route_hops + 1}, column {len(longest) + 2}: "):
        parse_hops(longest + ",a")
    with pytest.raises(TextError, match="more than"):
        parse_hops("/service/a" * (LIMITS.route_hops + 1))


def test_kinds_and_options_are_those_that_are_given() -> None:
    hops = parse_hops("pigeon:loft?ring=7,tcp", kinds=["pigeon"], options={"pigeon": ["ring"]})
    assert hops == (link("pigeon", "loft", ring="7"), NameHop("tcp"))
    for text in ("tcp:h:1", "1#h:1"):
        with pytest.raises(UsageError, match="known"):
            parse_hops(text, kinds=["pigeon"])
    assert parse_hops("stdio", kinds=["pigeon"]) == (NameHop("stdio"),)


def test_a_name_is_text_or_bytes_and_has_an_address() -> None:
    assert NameHop("ö") == NameHop("ö".encode())
    assert NameHop("ö").address == Address.local("ö")


@pytest.mark.parametrize("name", ["", b"", "\ud800"])
def test_an_empty_name_or_one_without_utf8_is_no_hop(name: str | bytes) -> None:
    with pytest.raises(UsageError):
        NameHop(name)
    if isinstance(name, str):
        with pytest.raises(UsageError):
            SecureHop(name)


def test_a_multiaddr_gives_hops_and_errors_with_columns_of_its_text() -> None:
    address = MultiAddr(
        (Part(Protocol.DNSADDR, "host"), Part(Protocol.TCP, "4000"), Part(Protocol.SERVICE, "outlet"))
    )
    assert to_hops(address) == (HOST, OUTLET)
    assert to_hops(MultiAddr(())) == ()
    with pytest.raises(UsageError, match="route hop 3, column 39: /node/x is looked up"):
        to_hops(MultiAddr((*address.parts, Part(Protocol.NODE, "x"))))


SPECIAL = st.sampled_from(",:%?&=> /#0")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | SPECIAL, min_size=1, max_size=10)
HOPS = st.one_of(
    st.builds(
        NameHop,
        TEXTS | st.binary(min_size=1, max_size=8) | st.sampled_from(["stdio", "0#a", "/service/a", "a=>b"]),
    ),
    st.builds(SecureHop, TEXTS),
    st.builds(link, st.sampled_from(["ble", "pty", "unix", "memory"]), TEXTS),
    st.builds(link, st.just("serial"), TEXTS, baud=TEXTS | st.just(""), parity=TEXTS),
    st.builds(
        link, st.sampled_from(["tcp", "udp"]), st.sampled_from(["1", "h:1", "[::1]:1", "[fe80::1%a,=>]:1"])
    ),
    st.just(link("stdio")),
)


@given(st.lists(HOPS, min_size=1, max_size=6))
def test_every_path_comes_back(hops: list[Hop]) -> None:
    text = format_hops(hops)
    assert parse_hops(text) == tuple(hops)
    assert format_hops(parse_hops(text)) == text
    assert text.isascii()
    assert text.isprintable()
    assert " " not in text


PIECES = st.sampled_from(
    [
        "tcp:",
        "secure:",
        "serial:",
        "stdio",
        "h:1",
        ",",
        " => ",
        "=>",
        "%41",
        "%",
        "?baud=",
        "&",
        "1#",
        "0#",
        "/service/",
        "/ip4/1.2.3.4",
        "/tcp/1",
        "a",
    ]
)


@given(st.lists(PIECES | st.text(st.characters(), max_size=3), max_size=8).map("".join))
def test_any_text_is_a_path_or_an_error_with_a_place_in_it(text: str) -> None:
    try:
        hops = parse_hops(text)
    except TextError as error:
        place = (error.hop, error.column)
    else:
        place = (1, 1)
        assert parse_hops(format_hops(hops)) == hops
    assert place >= (1, 1)
    assert 1 <= place[1] <= len(text) + 1
