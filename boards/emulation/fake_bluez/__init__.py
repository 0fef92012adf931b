"""A fake of BlueZ's bluetoothd on a D-Bus of its own, with switches for what goes wrong with the real one."""

from boards.emulation.fake_bluez.daemon import FakeBluez, Faults
from boards.emulation.fake_bluez.private_bus import VARIABLE, PrivateBus, is_possible

__all__ = ["VARIABLE", "FakeBluez", "Faults", "PrivateBus", "is_possible"]
