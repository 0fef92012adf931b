"""The handshake of a secure channel against recorded Rust ones, and against every kind of damage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ockamlite.errors import DecodeError, ProtocolError, RemoteError, TrustError, VerificationError
from ockamlite.secure_channels import noise
from ockamlite.secure_channels.message import Close, decode_message, encode_message
from ockamlite.secure_channels.noise import DhKey
from ockamlite.secure_channels.nonces import RekeyBudget
from ockamlite.secure_channels.protocol import ChannelCiphers, Initiator, Responder
from ockamlite.vault.primitives import Aead

FOLDER = Path(__file__).parents[1] / "vectors"
CASES = json.loads((FOLDER / "handshake.json").read_text())["cases"]
FAULTS = json.loads((FOLDER / "handshake_faults.json").read_text())["cases"]
MakeKey = Callable[[bytes], DhKey]


def keep(payload: bytes, static: bytes) -> tuple[bytes, bytes]:
    """A ``verify`` that trusts everyone and tells what it saw."""
    return payload, static


def refuse(payload: bytes, static: bytes) -> None:
    raise TrustError("not one of ours")


class Pair:
    """Alice, who begins, and Bob, who answers."""

    def __init__(self, dh_key: MakeKey) -> None:
        self.static_a, self.static_b = dh_key(b"\x02" * 32), dh_key(b"\x12" * 32)
        self._ephemeral_b = dh_key(b"\x13" * 32)
        self.alice = Initiator(self.static_a, dh_key(b"\x03" * 32), b"I am Alice" * 30)
        self.bob = self.answer(self.alice.message1)

    def answer(self, message1: bytes) -> Responder:
        """What a listener does with a message 1."""
        return Responder(self.static_b, self._ephemeral_b, b"I am Bob" * 40, message1)

    def message3(self) -> tuple[bytes, ChannelCiphers]:
        message3, ciphers, peer = self.alice.receive(self.bob.message2, keep)
        assert peer == (b"I am Bob" * 40, self.static_b.public)
        return message3, ciphers

    def finish(self, message3: bytes) -> ChannelCiphers:
        ciphers, peer = self.bob.receive(message3, keep)
        assert peer == (b"I am Alice" * 30, self.static_a.public)
        return ciphers


@pytest.fixture
def pair(dh_key: MakeKey) -> Pair:
    return Pair(dh_key)


def assert_open(one: ChannelCiphers, other: ChannelCiphers) -> None:
    for sealer, opener in ((one.sealer, other.opener), (other.sealer, one.opener)):
        for text in (b"first", b"second"):
            assert opener.open(sealer.seal(text), 0.0) == (text, False, False)


def every_flip(message: bytes) -> list[bytes]:
    return [
        message[:at] + bytes((message[at] ^ 1 << at % 8,)) + message[at + 1 :] for at in range(len(message))
    ]


# -- recorded handshakes ---------------------------------------------------------------------------


def payload_of(case: dict[str, Any], side: str) -> bytes:
    """The identity payload, as Rust gave it to its vault: the longest text that the side sealed."""
    sealed = [bytes.fromhex(call["plaintext"]) for call in case[f"{side}_vault"] if call["op"] == "encrypt"]
    payload = max(sealed[:2], key=len)
    assert payload.startswith(b"\x83" + bytes.fromhex(case[side]["change_history"]))
    return payload


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_we_write_what_rust_wrote_in_both_roles_from_message_1_to_close(
    case: dict[str, Any], dh_key: MakeKey
) -> None:
    def key(side: str, name: str) -> DhKey:
        secret = case[side]["secrets"][name]
        return dh_key(bytes.fromhex(secret if isinstance(secret, str) else secret[0]))

    payload_i, payload_r = payload_of(case, "initiator"), payload_of(case, "responder")
    message1, message2, message3 = (bytes.fromhex(step["payload"]) for step in case["handshake"])

    initiator = Initiator(key("initiator", "static_x25519"), key("initiator", "ephemeral_x25519"), payload_i)
    assert initiator.message1 == message1
    responder = Responder(
        key("responder", "static_x25519"), key("responder", "ephemeral_x25519"), payload_r, message1
    )
    assert responder.message2 == message2
    ours, ciphers_i, peer = initiator.receive(message2, keep)
    assert ours == message3
    assert peer == (payload_r, key("responder", "static_x25519").public)
    ciphers_r, peer = responder.receive(message3, keep)
    assert peer == (payload_i, key("initiator", "static_x25519").public)

    for direction, sender, receiver in (
        ("initiator_to_responder", ciphers_i, ciphers_r),
        ("responder_to_initiator", ciphers_r, ciphers_i),
    ):
        packets = case[direction]["packets"]
        for number, recorded in enumerate(packets):
            plaintext, packet = bytes.fromhex(recorded["plaintext"]), bytes.fromhex(recorded["packet"])
            assert recorded["nonce"] == number
            assert sender.sealer.seal(plaintext) == packet
            assert receiver.opener.open(packet, 0.0) == (plaintext, False, False)
            assert encode_message(decode_message(plaintext)) == plaintext
    last = case["initiator_to_responder"]["packets"][-1]
    assert decode_message(bytes.fromhex(last["plaintext"])) == Close()


def test_the_transcript_is_the_recorded_one(dh_key: MakeKey) -> None:
    state = noise.SymmetricState.start()
    assert state.transcript.hex() == "c6096331ab8d033b2ab45efed418e9511b63d51e0b5a9a584086ea8b5905e752"
    state, _ = noise.write1(state, dh_key(b"\x03" * 32))
    assert state.transcript.hex() == "2e6eb67489afbcd0e643b8f83f2345689dd9001479db926c061d73855b5ef1f4"


# -- damage ----------------------------------------------------------------------------------------


def spoil(message: bytes, fault: str) -> list[bytes]:
    """What arrives instead of ``message``."""
    match fault:
        case "first byte flipped":
            return [bytes((message[0] ^ 1,)) + message[1:]]
        case "last byte flipped":
            return [message[:-1] + bytes((message[-1] ^ 1,))]
        case "last byte missing":
            return [message[:-1]]
        case "one byte too many":
            return [message + b"\0"]
        case "empty":
            return [b""]
        case "lost":
            return []
        case "sent twice":
            return [message, message]
        case _:
            raise AssertionError(fault)


@pytest.mark.parametrize(
    "case", FAULTS, ids=lambda c: f"{c['message']} {c['fault']}{' then good' * c['good_one_follows']}"
)
def test_a_spoiled_message_does_no_harm_once_the_good_one_comes(case: dict[str, Any], pair: Pair) -> None:
    """We do better than Rust: a spoiled message 2, or the tail of message 3, ends its handshake."""

    def arriving(number: int, message: bytes) -> list[bytes]:
        if case["message"] != number:
            return [message]
        return spoil(message, case["fault"]) + [message] * case["good_one_follows"]

    answers: list[Responder] = []
    for message1 in arriving(1, pair.alice.message1):
        try:
            answers.append(pair.answer(message1))
        except RemoteError:
            continue
    initiator: tuple[bytes, ChannelCiphers] | None = None
    for bob in answers:
        for message2 in arriving(2, bob.message2):
            try:
                message3, ciphers, _ = pair.alice.receive(message2, keep)
                initiator = message3, ciphers
            except RemoteError:
                continue
    responder: ChannelCiphers | None = None
    if initiator is not None:
        for bob in answers:
            for message3 in arriving(3, initiator[0]):
                try:
                    responder, _ = bob.receive(message3, keep)
                except RemoteError:
                    continue

    harmless = case["good_one_follows"] or case["fault"] == "sent twice"
    # An initiator that finished believes in its channel whatever becomes of message 3.
    assert (initiator is not None) == (harmless or case["message"] == 3)
    assert (responder is not None) == harmless
    if initiator is not None and responder is not None:
        assert_open(initiator[1], responder)
    if case["channel_works"]:
        assert responder is not None


def test_w3_after_every_flipped_bit_the_good_message_2_still_finishes(pair: Pair) -> None:
    for spoiled in every_flip(pair.bob.message2):
        with pytest.raises(VerificationError):
            pair.alice.receive(spoiled, keep)
    message3, alice = pair.message3()
    assert_open(alice, pair.finish(message3))


def test_w3_after_every_flipped_bit_the_good_message_3_still_finishes(pair: Pair) -> None:
    message3, alice = pair.message3()
    for spoiled in every_flip(message3):
        with pytest.raises(VerificationError):
            pair.bob.receive(spoiled, keep)
    assert_open(alice, pair.finish(message3))


def test_a_flipped_bit_in_message_1_leads_to_no_channel(pair: Pair) -> None:
    """Not even the one that X25519 ignores: the transcripts differ."""
    for spoiled in every_flip(pair.alice.message1):
        bob = pair.answer(spoiled)
        with pytest.raises(VerificationError):
            pair.alice.receive(bob.message2, keep)
    message3, alice = pair.message3()
    assert_open(alice, pair.finish(message3))


def test_a_message_cut_at_any_length_is_refused(pair: Pair) -> None:
    for cut in range(32):
        with pytest.raises(DecodeError):
            pair.answer(pair.alice.message1[:cut])
    for cut in range(len(pair.bob.message2)):
        with pytest.raises(DecodeError if cut < 80 else VerificationError):
            pair.alice.receive(pair.bob.message2[:cut], keep)
    message3, alice = pair.message3()
    for cut in range(len(message3)):
        with pytest.raises(DecodeError if cut < 48 else VerificationError):
            pair.bob.receive(message3[:cut], keep)
    assert_open(alice, pair.finish(message3))


def test_our_own_messages_sent_back_to_us_are_refused(pair: Pair) -> None:
    message3, alice = pair.message3()
    for own in (pair.alice.message1, pair.bob.message2):
        with pytest.raises(RemoteError):
            pair.bob.receive(own, keep)
    other = Initiator(pair.static_a, pair.static_b, b"")
    for own in (other.message1, message3):
        with pytest.raises(RemoteError):
            other.receive(own, keep)
    bob = pair.finish(message3)
    packet = alice.sealer.seal(b"hello")
    with pytest.raises(VerificationError):
        alice.opener.open(packet, 0.0)
    assert bob.opener.open(packet, 0.0).plaintext == b"hello"


def test_a_padded_message_1_is_accepted_and_its_padding_ignored(dh_key: MakeKey, pair: Pair) -> None:
    alice = Initiator(pair.static_a, dh_key(b"\x04" * 32), b"I am Alice" * 30, padding=bytes(400))
    assert len(alice.message1) == 432
    bob = pair.answer(alice.message1)
    message3, ciphers, _ = alice.receive(bob.message2, keep)
    assert_open(ciphers, bob.receive(message3, keep)[0])


def test_a_message_behind_its_end_is_part_of_what_is_authenticated(pair: Pair) -> None:
    with pytest.raises(VerificationError):
        pair.alice.receive(pair.bob.message2 + b"\0", keep)


# -- trust -----------------------------------------------------------------------------------------


def test_a_peer_that_is_refused_changes_nothing(pair: Pair) -> None:
    with pytest.raises(TrustError):
        pair.alice.receive(pair.bob.message2, refuse)
    message3, alice = pair.message3()
    with pytest.raises(TrustError):
        pair.bob.receive(message3, refuse)
    assert_open(alice, pair.finish(message3))


def test_the_static_key_shown_is_the_one_that_was_used_not_the_one_claimed(
    pair: Pair, dh_key: MakeKey
) -> None:
    """Mallory presents Bob's payload, but cannot use Bob's key."""
    mallory = Responder(dh_key(b"\x66" * 32), dh_key(b"\x67" * 32), b"I am Bob" * 40, pair.alice.message1)

    def attested(payload: bytes, static: bytes) -> None:
        assert payload == b"I am Bob" * 40
        if static != pair.static_b.public:
            raise VerificationError("the attested key is not the static key")

    with pytest.raises(VerificationError, match="attested"):
        pair.alice.receive(mallory.message2, attested)
    # Bob's own answer can still come.
    pair.alice.receive(pair.bob.message2, attested)


# -- the end ---------------------------------------------------------------------------------------


def test_a_finished_handshake_gives_no_second_pair_of_ciphers(pair: Pair) -> None:
    """They would seal other messages with the same keys and nonces."""
    message3, _ = pair.message3()
    with pytest.raises(ProtocolError):
        pair.alice.receive(pair.bob.message2, keep)
    pair.finish(message3)
    with pytest.raises(ProtocolError):
        pair.bob.receive(message3, keep)


def test_two_channels_of_the_same_identities_share_nothing(dh_key: MakeKey) -> None:
    one, two = Pair(dh_key), Pair(dh_key)
    two.alice = Initiator(two.static_a, dh_key(b"\x55" * 32), b"I am Alice" * 30)
    two.bob = two.answer(two.alice.message1)
    channels = []
    for pair in (one, two):
        message3, alice = pair.message3()
        channels.append((alice, pair.finish(message3)))
    (alice1, bob1), (alice2, bob2) = channels
    packet = alice1.sealer.seal(b"for the first channel")
    with pytest.raises(VerificationError):
        bob2.opener.open(packet, 0.0)
    assert bob1.opener.open(packet, 0.0).plaintext == b"for the first channel"
    assert_open(alice2, bob2)


def test_the_initiator_sends_with_the_second_key(pair: Pair) -> None:
    """No public Noise vector shows this: standard Noise has it the other way round."""
    message3, alice = pair.message3()
    state = noise.read3(pair.bob._state, pair.bob._ephemeral, message3).state
    _, second = state.split()
    packet = bytes(alice.sealer.seal(b"hello"))
    assert Aead(second).open(packet[:8].rjust(12, b"\0"), packet[8:], None) == b"hello"


def test_channels_share_the_budget_they_are_given(dh_key: MakeKey) -> None:
    budget = RekeyBudget()
    alice = Initiator(dh_key(b"\x02" * 32), dh_key(b"\x03" * 32), b"", budget=budget)
    bob = Responder(dh_key(b"\x12" * 32), dh_key(b"\x13" * 32), b"", alice.message1, budget=budget)
    message3, ciphers_a, _ = alice.receive(bob.message2, keep)
    ciphers_b, _ = bob.receive(message3, keep)
    assert ciphers_a.opener._budget is ciphers_b.opener._budget is budget
