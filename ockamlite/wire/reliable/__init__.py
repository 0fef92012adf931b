"""Reliable links over lines and radios that lose, damage and reorder: serial and BLE. No I/O."""
