"""Profiles of boards: a file each, ``NAME.toml``, read when it is asked for."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any, Final

from boards.profile import Ble, Gpio, Match, Profile, Uart
from ockamlite.errors import NotFoundError

NAMES: Final = (
    "raspberry-pi-zero-2-w",
    "raspberry-pi-3b",
    "raspberry-pi-3b-plus",
    "raspberry-pi-4b",
    "raspberry-pi-cm4",
    "raspberry-pi-5",
    "raspberry-pi-500",
    "beaglebone-black",
    "beaglebone-black-wireless",
    "beagleplay",
    "jetson-orin-nano",
    "orange-pi-zero-2w",
    "rock-5b",
    "generic-arm",
    "generic-x86",
)
"""All profiles, the generic ones last."""


@cache
def load(name: str) -> Profile:
    """The profile of that name.

    Raises:
        NotFoundError: there is none.
    """
    if name not in NAMES:
        raise NotFoundError(f"there is no board {name!r}", hint="ockamlite board list")
    return _profile(name, tomllib.loads(files(__name__).joinpath(f"{name}.toml").read_text()))


def all_profiles() -> list[Profile]:
    """Every profile, in the order of their names' list."""
    return [load(name) for name in NAMES]


def _profile(name: str, table: dict[str, Any]) -> Profile:
    tables: dict[str, Any] = {
        "uarts": tuple(Uart(**_tuples(uart)) for uart in table.pop("uarts", ())),
        "match": Match(**_tuples(table.pop("match", {}))),
        "ble": Ble(**_tuples(table.pop("ble", {}))),
        "gpio": Gpio(**_tuples(table.pop("gpio", {}))),
    }
    return Profile(name=name, **tables, **_tuples(table))


def _tuples(table: dict[str, Any]) -> dict[str, Any]:
    """The table with lists as tuples, which do not change."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
