"""BlueZ's names, our GATT application as it is told of them, and what its errors mean. No I/O.

The application is one service with three characteristics. That RX and TX have the properties
``WriteAcquired`` and ``NotifyAcquired`` makes bluetoothd ask for a socket per device instead of calling a
method per value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from dbus_fast import Message, Variant

from ockamlite.errors import UnavailableError
from transports.ble import gatt, unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

BLUEZ: Final = "org.bluez"
ADAPTER: Final = "org.bluez.Adapter1"
DEVICE: Final = "org.bluez.Device1"
SERVICE: Final = "org.bluez.GattService1"
CHARACTERISTIC: Final = "org.bluez.GattCharacteristic1"
GATT_MANAGER: Final = "org.bluez.GattManager1"
ADVERTISING: Final = "org.bluez.LEAdvertisingManager1"
ADVERTISEMENT: Final = "org.bluez.LEAdvertisement1"
OBJECT_MANAGER: Final = "org.freedesktop.DBus.ObjectManager"
PROPERTIES: Final = "org.freedesktop.DBus.Properties"
BUS: Final = "org.freedesktop.DBus"

APPLICATION: Final = "/org/ockamlite"
SERVICE_PATH: Final = f"{APPLICATION}/service0"
RX_PATH: Final = f"{SERVICE_PATH}/char0"
TX_PATH: Final = f"{SERVICE_PATH}/char1"
INFO_PATH: Final = f"{SERVICE_PATH}/char2"
ADVERTISEMENT_PATH: Final = f"{APPLICATION}/advertisement0"

FAILED: Final = "org.bluez.Error.Failed"
DENIED: Final = "org.freedesktop.DBus.Error.AccessDenied"
UNKNOWN: Final = "org.freedesktop.DBus.Error.UnknownMethod"


def objects() -> dict[str, dict[str, dict[str, Variant]]]:
    """The application's objects with their properties."""

    def characteristic(uuid: str, flags: list[str], **more: Variant) -> dict[str, dict[str, Variant]]:
        return {
            CHARACTERISTIC: {
                "UUID": Variant("s", uuid),
                "Service": Variant("o", SERVICE_PATH),
                "Flags": Variant("as", flags),
                **more,
            }
        }

    return {
        SERVICE_PATH: {SERVICE: {"UUID": Variant("s", gatt.SERVICE), "Primary": Variant("b", True)}},
        RX_PATH: characteristic(
            gatt.RX, ["write-without-response", "write"], WriteAcquired=Variant("b", False)
        ),
        TX_PATH: characteristic(gatt.TX, ["notify"], NotifyAcquired=Variant("b", False)),
        INFO_PATH: characteristic(gatt.INFO, ["read"]),
    }


def advertisement(name: str) -> dict[str, Variant]:
    """What is advertised: our service and the name, nothing else."""
    return {
        "Type": Variant("s", "peripheral"),
        "ServiceUUIDs": Variant("as", [gatt.SERVICE]),
        "LocalName": Variant("s", name),
    }


def properties(path: str, interface: str, name: str) -> dict[str, Variant]:
    """The properties of one of our objects."""
    if path == ADVERTISEMENT_PATH and interface == ADVERTISEMENT:
        return advertisement(name)
    return objects().get(path, {}).get(interface, {})


def call(path: str, interface: str, member: str, signature: str = "", *body: Any) -> Message:
    """A method call to BlueZ."""
    return Message(BLUEZ, path, interface, member, signature=signature, body=list(body))


def option(options: Mapping[str, Variant], name: str, kind: type) -> Any:
    """An option of a call by BlueZ, or None if it is absent or of another type."""
    found = options.get(name)
    value = found.value if isinstance(found, Variant) else None
    return value if type(value) is kind else None


def device_address(path: str) -> str:
    """The address of the device that BlueZ has at a path."""
    return path.rpartition("/dev_")[2].replace("_", ":")


def is_not_running(error: str) -> bool:
    """True if a D-Bus error says that bluetoothd neither runs nor could be started."""
    started = ("org.freedesktop.DBus.Error.Spawn.", "org.freedesktop.systemd1.")
    return error.startswith(started) or error.endswith((".ServiceUnknown", ".NameHasNoOwner"))


def registering_failed(reply: Message, adapter: str) -> UnavailableError:
    """What it means that bluetoothd refuses us."""
    error = reply.error_name or ""
    text = str(reply.body[0]) if reply.body else error
    if is_not_running(error):
        return unavailable.no_daemon()
    if error.endswith("AccessDenied"):
        return unavailable.denied()
    if error.endswith("NotReady"):
        return unavailable.powered_off()
    if error.endswith("UnknownObject"):
        return unavailable.no_adapter(adapter)
    if error.endswith("UnknownMethod"):
        return UnavailableError("this adapter, or its driver, cannot advertise", hint="another adapter")
    if error.endswith("NotPermitted"):
        return UnavailableError(
            "the adapter takes no more advertisements", hint="end another program that advertises"
        )
    return UnavailableError(f"bluetoothd refuses to advertise: {text}")
