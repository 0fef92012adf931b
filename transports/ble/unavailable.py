"""What can be wrong with the Bluetooth of a machine, and what to do about it."""

from __future__ import annotations

from pathlib import Path

from ockamlite.errors import UnavailableError


def no_bus() -> UnavailableError:
    """The error for a machine, or container, without a system D-Bus."""
    return UnavailableError(
        "there is no system D-Bus, over which BlueZ is reached",
        hint="sudo apt install bluez, or in a container: mount /run/dbus/system_bus_socket",
    )


def no_daemon() -> UnavailableError:
    """The error for a machine without bluetoothd."""
    return UnavailableError(
        "bluetoothd does not run", hint="sudo apt install bluez; sudo systemctl enable --now bluetooth"
    )


def denied() -> UnavailableError:
    """The error for a user whom D-Bus refuses."""
    return UnavailableError(
        "this user may not use Bluetooth", hint="sudo usermod -aG bluetooth $USER, and log in again"
    )


def no_adapter(adapter: str, root: Path = Path("/")) -> UnavailableError:
    """The error for an adapter that is not there."""
    blocked = _blocked(root)
    if blocked is not None:
        return blocked
    if adapter:
        return UnavailableError(
            f"no Bluetooth adapter {adapter!r}", hint="'bluetoothctl list' shows those that there are"
        )
    return UnavailableError(
        "no Bluetooth LE adapter", hint="plug one in, or start the one on the board: 'ockamlite board'"
    )


def powered_off(root: Path = Path("/")) -> UnavailableError:
    """The error for an adapter that is off."""
    return _blocked(root) or UnavailableError("the Bluetooth adapter is off", hint="bluetoothctl power on")


def _blocked(root: Path) -> UnavailableError | None:
    for entry in sorted((root / "sys/class/rfkill").glob("rfkill*")):
        try:
            kind, soft, hard = ((entry / name).read_text().strip() for name in ("type", "soft", "hard"))
        except OSError:
            continue
        if kind == "bluetooth" and hard == "1":
            return UnavailableError(
                "Bluetooth is blocked by a switch of the machine", hint="the switch, or the firmware's setup"
            )
        if kind == "bluetooth" and soft == "1":
            return UnavailableError("Bluetooth is blocked by rfkill", hint="sudo rfkill unblock bluetooth")
    return None
