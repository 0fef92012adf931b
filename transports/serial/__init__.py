"""Links over serial lines: UARTs and USB adapters."""

from transports.serial.transport import SerialTransport

__all__ = ["SerialTransport"]
