"""Trust policies: who is let in, and that doubt refuses."""

from __future__ import annotations

from typing import Any

import pytest

from ockamlite.errors import TrustError, UsageError
from ockamlite.identities.peer import PeerIdentity
from ockamlite.node import Node
from ockamlite.routing.route import Route
from ockamlite.secure_channels.trust import NotTrustedError, TrustEveryone, TrustIdentifiers, check


@pytest.fixture
def peer(identity: Any) -> PeerIdentity:
    return PeerIdentity(identity(1), attestation_expires_at=0)


def test_everyone_is_everyone(peer: PeerIdentity) -> None:
    check(TrustEveryone(), peer)


def test_identifiers_and_their_text_let_in_those_and_nobody_else(peer: PeerIdentity, identity: Any) -> None:
    check(TrustIdentifiers(peer.identifier), peer)
    check(TrustIdentifiers(identity(2).identifier, str(peer.identifier)), peer)
    with pytest.raises(TrustError):
        check(TrustIdentifiers(identity(2).identifier), peer)


def test_no_identifiers_trust_nobody(peer: PeerIdentity) -> None:
    with pytest.raises(TrustError):
        check(TrustIdentifiers(), peer)


def test_a_text_that_is_no_identifier_is_refused_at_once() -> None:
    with pytest.raises(UsageError):
        TrustIdentifiers("I00")


def test_a_refusal_names_the_peer(peer: PeerIdentity) -> None:
    with pytest.raises(NotTrustedError, match=str(peer.identifier)) as raised:
        check(lambda _: False, peer)
    assert raised.value.peer == peer.identifier


def test_any_function_of_an_identifier_is_a_policy(peer: PeerIdentity) -> None:
    check(lambda identifier: identifier == peer.identifier, peer)


async def test_w22_who_is_trusted_is_always_said() -> None:
    async with Node() as node:
        listens: Any = node.secure_channel_listener
        dials: Any = node.secure_channel
        for ask in (lambda: listens("api"), lambda: dials(Route.of("api"))):
            with pytest.raises(TypeError, match="trust"):
                ask()


@pytest.mark.parametrize("verdict", [None, 0, 1, "yes", object()])
def test_whatever_is_not_true_itself_refuses(verdict: Any, peer: PeerIdentity) -> None:
    with pytest.raises(TrustError):
        check(lambda _: verdict, peer)


@pytest.mark.filterwarnings("ignore:coroutine")
def test_an_async_policy_does_not_let_everybody_in(peer: PeerIdentity) -> None:
    async def policy(identifier: Any) -> bool:
        return False

    careless: Any = policy
    with pytest.raises(TrustError):
        check(careless, peer)


def test_w17_a_pinned_identity_needs_as_many_changes_as_are_known(peer: PeerIdentity, identity: Any) -> None:
    pinned = TrustIdentifiers(peer.identifier, min_changes={peer.identifier: 2})
    with pytest.raises(NotTrustedError, match="1 of at least 2"):
        check(pinned, peer)
    check(pinned, PeerIdentity(identity(1, 5), attestation_expires_at=0))


def test_w17_a_pin_trusts_nobody_by_itself(peer: PeerIdentity) -> None:
    with pytest.raises(TrustError):
        check(TrustIdentifiers(min_changes={peer.identifier: 1}), peer)


def test_policies_print_as_code(identity: Any) -> None:
    one = identity(1).identifier
    assert repr(TrustEveryone()) == "TrustEveryone()"
    assert repr(TrustIdentifiers(one)) == f"TrustIdentifiers({one})"
