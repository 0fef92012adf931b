"""TCP portals, one end ours and one end Rust: bulk both ways, a real HTTP client, many small messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

RESET = "portal: a reset in the middle of a transfer ends the other side"
INLET = "inlet ockamlite → outlet Rust"
OUTLET = "inlet Rust → outlet ockamlite"
ROUNDS = 250
"""Small messages on one connection: several rekeyings of the channel below it, each way."""
ENDED = "an end"
"""What Rust tells its application of an end with an error: it knows no other."""


@pytest.fixture(scope="module")
def our_inlet(ours: Any, rust_node: Any) -> int:
    """The port of our inlet to a Rust outlet."""
    route = rust_node.hops("outlet")
    port: int = ours.inlet("--to", route, "--allow", rust_node.identifier)
    return port


@pytest.fixture(scope="module")
def rust_inlet(ours: Any, rust: Any, target: str) -> int:
    """The port of a Rust inlet to our outlet, each end knowing the other."""
    words = (f"tcp:{target}", "--allow", rust.identifier("client"))
    _, place = ours.listening("outlet", *words)
    port: int = rust.inlet(place, only=place.identifier)
    return port


@pytest.mark.proves("portal: 10 MiB both ways at once", INLET)
def test_bulk_through_our_inlet_arrives_unchanged_both_ways(our_inlet: int, portal_user: Any) -> None:
    portal_user.exchange(our_inlet)


@pytest.mark.proves("portal: 10 MiB both ways at once", OUTLET)
def test_bulk_through_our_outlet_arrives_unchanged_both_ways(rust_inlet: int, portal_user: Any) -> None:
    portal_user.exchange(rust_inlet)


@pytest.mark.proves("portal: curl, 10 MiB down and up", INLET)
def test_curl_works_through_our_inlet(our_inlet: int, portal_user: Any, tmp_path: Path) -> None:
    portal_user.curl(our_inlet, tmp_path)


@pytest.mark.proves("portal: curl, 10 MiB down and up", OUTLET)
def test_curl_works_through_our_outlet(rust_inlet: int, portal_user: Any, tmp_path: Path) -> None:
    portal_user.curl(rust_inlet, tmp_path)


@pytest.mark.proves("portal: 250 questions and answers", INLET)
def test_a_long_conversation_through_our_inlet_outlives_rekeyings(our_inlet: int, portal_user: Any) -> None:
    portal_user.chat(our_inlet, ROUNDS)


@pytest.mark.proves("portal: 250 questions and answers", OUTLET)
def test_a_long_conversation_through_our_outlet_outlives_rekeyings(rust_inlet: int, portal_user: Any) -> None:
    portal_user.chat(rust_inlet, ROUNDS)


@pytest.mark.proves("portal without a secure channel", INLET)
def test_our_inlet_reaches_a_rust_outlet_in_clear(ours: Any, rust_node: Any, portal_user: Any) -> None:
    portal_user.chat(ours.inlet("--to", rust_node.clear.hops("outlet")), 3)


@pytest.mark.proves("portal without a secure channel", OUTLET)
def test_a_rust_inlet_reaches_our_insecure_outlet_in_clear(
    ours: Any, rust: Any, target: str, portal_user: Any
) -> None:
    _, place = ours.listening("outlet", f"tcp:{target}", "--insecure")
    portal_user.chat(rust.inlet(place.clear), 3)


@pytest.mark.proves("portal: two connections at once, one closed early", INLET)
def test_closing_one_connection_leaves_the_other_open(our_inlet: int, portal_user: Any) -> None:
    portal_user.chat_while_another_closes(our_inlet)


@pytest.mark.proves("portal: two connections at once, one closed early", OUTLET)
def test_closing_one_rust_connection_leaves_the_other_open(rust_inlet: int, portal_user: Any) -> None:
    portal_user.chat_while_another_closes(rust_inlet)


@pytest.mark.proves(RESET, INLET)
def test_a_client_that_resets_our_inlet_is_gone_for_the_target_of_a_rust_outlet(
    our_inlet: int, portal_user: Any
) -> None:
    assert portal_user.reset_by_client(our_inlet) == ENDED


@pytest.mark.proves(RESET, OUTLET)
def test_a_target_that_resets_our_outlet_ends_the_client_of_a_rust_inlet(
    rust_inlet: int, portal_user: Any
) -> None:
    assert portal_user.reset_by_service(rust_inlet) == ENDED
