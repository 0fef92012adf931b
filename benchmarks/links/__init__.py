"""What links carry, end to end through a secure channel and a portal, beside what they could carry at most.

Lines, radios and losses are emulated. Where they are the limit, nodes and link live in one process and in
virtual time: the figures are exact, and the same on every machine. Where the processor is the limit, they
live in real time. Unlike the tunnels, most of this uses the library: a command line knows no virtual time.
"""

from __future__ import annotations

from benchmarks.links.bluetooth import bluetooth
from benchmarks.links.bridge import bridge
from benchmarks.links.datagrams import datagrams
from benchmarks.links.figure import Figure, Run, figures_table
from benchmarks.links.routes import routes
from benchmarks.links.serial import serial

LINKS = {
    "serial": serial,
    "bluetooth": bluetooth,
    "datagrams": datagrams,
    "routes": routes,
    "bridge": bridge,
}
"""What `--only` calls them."""

__all__ = ["LINKS", "Figure", "Run", "figures_table"]
