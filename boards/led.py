"""A status LED: by the kernel's LED class where the board has one, else by a GPIO line.

The only module that knows gpiod, which the extra ``gpio`` brings.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from ockamlite.errors import NotFoundError, OckamError, UnavailableError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from boards.machine import Machine
    from boards.profile import Profile

_LEDS: Final = "/sys/class/leds"
_CONSUMER: Final = "ockamlite"


class StatusLed(Protocol):
    """An LED that shows a state; leaves it as it was when it is closed."""

    def on(self) -> None:
        """Light it."""

    def off(self) -> None:
        """Put it out."""

    def close(self) -> None:
        """Give it back; may be called twice."""


class KernelLed:
    """An LED of the kernel's LED class; its trigger (heartbeat, disk) comes back at the end.

    Args:
        machine: whose LED.
        name: its name below ``/sys/class/leds``.

    Raises:
        NotFoundError: there is none of that name.
        UnavailableError: we may not use it.
    """

    def __init__(self, machine: Machine, name: str) -> None:
        if "/" in name or not machine.has(f"{_LEDS}/{name}/brightness"):
            listed = ", ".join(machine.names(_LEDS)) or "none"
            raise NotFoundError(f"there is no LED {name!r}; there are: {listed}")
        self._folder = machine.here(f"{_LEDS}/{name}")
        self._name = name
        self._full = machine.text(f"{_LEDS}/{name}/max_brightness") or "1"
        self._before = (_trigger(machine, name), machine.text(f"{_LEDS}/{name}/brightness") or "0")
        self._closed = False
        self._write("trigger", "none")

    def on(self) -> None:
        """Light it."""
        self._write("brightness", self._full)

    def off(self) -> None:
        """Put it out."""
        self._write("brightness", "0")

    def blink(self, on_s: float, off_s: float) -> None:
        """Let the kernel blink it until ``on``, ``off`` or ``close``."""
        self._write("trigger", "timer")
        for name, seconds in (("delay_on", on_s), ("delay_off", off_s)):
            self._write(name, str(round(seconds * 1000)))

    def close(self) -> None:
        """Give it back; may be called twice."""
        if self._closed:
            return
        self._closed = True
        trigger, brightness = self._before
        self._write("trigger", trigger)
        if trigger == "none":
            self._write("brightness", brightness)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, name: str, text: str) -> None:
        path = self._folder / name
        try:
            path.write_text(text)
        except OSError as error:
            raise _refused(path, f"LED {self._name}", error) from error


class GpioLed:
    """An LED on a GPIO line, which is found by its chip's label or by its own name.

    Args:
        machine: whose pins.
        line: name of the line, or its number on the chip.
        chip: label of the chip; needed with a number, and narrows the search for a name.
        active_low: True if the LED lights when the line is low.

    Raises:
        UsageError: the extra ``gpio`` is not installed, or a number came without a chip.
        NotFoundError: no chip has such a line.
        UnavailableError: the line is in use, or we may not use it.
    """

    def __init__(
        self, machine: Machine, line: str | int, *, chip: str = "", active_low: bool = False
    ) -> None:
        if isinstance(line, int) and not chip:
            raise UsageError(f"GPIO line {line} needs the label of its chip: numbers of chips change")
        gpiod = _gpiod()
        path, offset = _find(gpiod, machine, line, chip)
        self._values = gpiod.line.Value
        settings = gpiod.LineSettings(
            direction=gpiod.line.Direction.OUTPUT,
            active_low=active_low,
            output_value=self._values.INACTIVE,
        )
        self._offset = offset
        try:
            self._request = gpiod.request_lines(str(path), consumer=_CONSUMER, config={offset: settings})
        except OSError as error:
            raise _refused(path, f"GPIO line {line}", error) from error

    def on(self) -> None:
        """Light it."""
        self._request.set_value(self._offset, self._values.ACTIVE)

    def off(self) -> None:
        """Put it out."""
        self._request.set_value(self._offset, self._values.INACTIVE)

    def close(self) -> None:
        """Put it out and give the line back; may be called twice."""
        if self._request:
            self.off()
            self._request.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def status_led(machine: Machine, profile: Profile) -> KernelLed:
    """The LED that a board has for its state.

    Raises:
        NotFoundError: the profile names none, or this machine does not have it.
        UnavailableError: we may not use it.
    """
    name = next((led for led in profile.leds if led in machine.names(_LEDS)), None)
    if name is None:
        named = ", ".join(profile.leds) or "no LED"
        raise NotFoundError(f"the profile {profile.name} names {named}, and this machine has none of them")
    return KernelLed(machine, name)


def _trigger(machine: Machine, name: str) -> str:
    """The trigger that is in force: the one in brackets."""
    triggers = (machine.text(f"{_LEDS}/{name}/trigger") or "").split()
    return next((word[1:-1] for word in triggers if word[:1] == "[" and word[-1:] == "]"), "none")


def _find(gpiod: Any, machine: Machine, line: str | int, chip: str) -> tuple[Path, int]:
    labels = []
    for name in machine.names("/dev"):
        path = machine.here(f"/dev/{name}")
        if not name.startswith("gpiochip") or not gpiod.is_gpiochip_device(str(path)):
            continue
        try:
            with gpiod.Chip(str(path)) as opened:
                info = opened.get_info()
                labels.append(str(info.label))
                if chip and info.label != chip:
                    continue
                if isinstance(line, str) or 0 <= line < info.num_lines:
                    return path, int(opened.line_offset_from_id(line))
        except OSError as error:
            if error.errno != errno.ENOENT:  # a chip without a line of that name
                raise _refused(path, "GPIO chip", error) from error
    where = f" on a chip {chip!r}" if chip else ""
    raise NotFoundError(f"there is no GPIO line {line!r}{where}; chips: {', '.join(labels) or 'none'}")


def _gpiod() -> Any:
    try:
        import gpiod
    except ImportError as error:
        raise UsageError("GPIO lines need the package gpiod", hint="pip install 'ockamlite[gpio]'") from error
    return gpiod


def _refused(path: Path, what: str, error: OSError) -> OckamError:
    if error.errno in (errno.EACCES, errno.EPERM):
        hint = f"a udev rule, or: sudo chgrp $(id -gn) {path} && sudo chmod g+rw {path}"
        return UnavailableError(f"{what} may not be used: permission denied on {path}", hint=hint)
    if error.errno == errno.EBUSY:
        return UnavailableError(f"{what} is in use by another program", hint="gpioinfo says by which")
    return UnavailableError(f"{what} cannot be used: {(error.strerror or str(error)).lower()}")
