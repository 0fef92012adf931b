"""Each profile is whole, has its sources, and marks what nobody has looked up."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from importlib.resources import files

import pytest

from boards.profile import Profile, Uart
from boards.profiles import NAMES, all_profiles, load
from ockamlite.errors import NotFoundError, UsageError

PROFILES = pytest.mark.parametrize("profile", all_profiles(), ids=lambda profile: profile.name)
PARTICULAR = pytest.mark.parametrize(
    "profile",
    [p for p in all_profiles() if not p.name.startswith("generic")],
    ids=lambda profile: profile.name,
)


def test_the_profiles_are_those_that_were_promised() -> None:
    assert set(NAMES) == {
        "raspberry-pi-zero-2-w", "raspberry-pi-3b", "raspberry-pi-3b-plus", "raspberry-pi-4b",
        "raspberry-pi-cm4", "raspberry-pi-5", "raspberry-pi-500", "beaglebone-black",
        "beaglebone-black-wireless", "beagleplay", "jetson-orin-nano", "orange-pi-zero-2w", "rock-5b",
        "generic-arm", "generic-x86",
    }  # fmt: skip


def test_every_file_of_data_is_in_the_list() -> None:
    folder = files("boards.profiles")
    assert {
        entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")
    } == set(NAMES)


def test_a_board_that_is_not_known_by_name_is_an_error_that_says_where_the_names_are() -> None:
    with pytest.raises(NotFoundError) as raised:
        load("raspberry-pi-9")
    assert raised.value.hint == "ockamlite board list"


@PROFILES
def test_a_profile_says_where_its_facts_are_from(profile: Profile) -> None:
    assert profile.sources
    assert all(source.strip() for source in profile.sources)


@PARTICULAR
def test_a_board_has_a_mark_memory_cipher_and_port(profile: Profile) -> None:
    assert profile.match.compatible
    assert profile.ram_mb
    assert profile.aes is not None
    assert profile.uarts
    assert profile.gpio.chip or profile.gpio.line_names
    assert all(128 <= uart.mtu_bytes <= 1024 for uart in profile.uarts)


@PROFILES
def test_what_is_marked_unverified_exists(profile: Profile) -> None:
    for mark in profile.unverified:
        name, _, inner = mark.partition(".")
        assert name in {field.name for field in fields(Profile)}, mark
        value = getattr(profile, name)
        held = value[0] if isinstance(value, tuple) and value else value
        if inner:
            assert is_dataclass(held), mark
            assert inner in {field.name for field in fields(held)}, mark


def test_no_mark_of_a_board_stands_for_two() -> None:
    for marks in (
        [mark for profile in all_profiles() for mark in profile.match.compatible],
        [mark for profile in all_profiles() for mark in profile.match.revision_types],
        [mark for profile in all_profiles() for mark in profile.match.eeprom],
    ):
        assert len(marks) == len(set(marks))


@PROFILES
def test_a_fix_can_be_filled_in(profile: Profile) -> None:
    for text in (*profile.fixes.values(), *(uart.enable for uart in profile.uarts)):
        filled = text.format(tty="ttyS0", cmdline="/boot/cmdline.txt", config="/boot/config.txt")
        assert "{" not in filled


@pytest.mark.parametrize(
    "name", ["raspberry-pi-zero-2-w", "raspberry-pi-3b", "raspberry-pi-3b-plus", "raspberry-pi-4b"]
)
def test_boards_whose_bluetooth_has_the_full_uart_say_so(name: str) -> None:
    profile = load(name)
    assert "exclude each other" in profile.ble.conflict
    assert profile.uarts[0].hardware.startswith("mini UART")
    assert profile.uarts[0].baud == 115_200
    assert 128 <= profile.uarts[0].mtu_bytes <= 256
    assert profile.aes is False


def test_the_header_of_a_pi_5_is_not_serial0() -> None:
    assert load("raspberry-pi-5").uarts[0].devices == ("/dev/ttyAMA0",)


def test_a_port_that_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="no devices"):
        Uart(devices=("ttyS0",), hardware="")
    with pytest.raises(UsageError, match="above 9600"):
        Uart(devices=("/dev/ttyS0",), hardware="", baud=115_200, max_baud=9600)
