"""A status LED does what it is told, and is left as it was; pins are found by label or name."""

from __future__ import annotations

import errno
import sys
from enum import Enum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from boards.led import GpioLed, KernelLed, status_led
from boards.profiles import load
from ockamlite.errors import NotFoundError, UnavailableError, UsageError


@pytest.fixture
def act(tree: Any) -> Any:
    """A board whose LED ACT shows its memory card."""
    tree.write("/sys/class/leds/ACT/brightness", "0\n")
    tree.write("/sys/class/leds/ACT/max_brightness", "255\n")
    tree.write("/sys/class/leds/ACT/trigger", "none rc-feedback [mmc0] timer heartbeat default-on\n")
    return tree


def value(tree: Any, name: str) -> str:
    text: str = tree.text(f"/sys/class/leds/ACT/{name}")
    return text


def test_a_kernel_led_is_lit_put_out_and_given_back(act: Any) -> None:
    with KernelLed(act, "ACT") as led:
        assert value(act, "trigger") == "none"
        led.on()
        assert value(act, "brightness") == "255"
        led.off()
        assert value(act, "brightness") == "0"
    assert value(act, "trigger") == "mmc0"
    led.close()


def test_the_kernel_blinks_it(act: Any) -> None:
    led = KernelLed(act, "ACT")
    led.blink(0.1, 0.9)
    assert [value(act, name) for name in ("trigger", "delay_on", "delay_off")] == ["timer", "100", "900"]


def test_an_led_without_a_trigger_gets_its_brightness_back(act: Any) -> None:
    act.write("/sys/class/leds/ACT/trigger", "[none] timer\n")
    act.write("/sys/class/leds/ACT/brightness", "7\n")
    with KernelLed(act, "ACT") as led:
        led.on()
    assert (value(act, "trigger"), value(act, "brightness")) == ("none", "7")


def test_an_led_that_is_not_there_lists_those_that_are(act: Any) -> None:
    with pytest.raises(NotFoundError, match="no LED 'PWR'; there are: ACT"):
        KernelLed(act, "PWR")
    with pytest.raises(NotFoundError):
        KernelLed(act, "../leds/ACT")


def test_the_profile_names_the_status_led(act: Any) -> None:
    status_led(act, load("raspberry-pi-4b")).on()
    assert value(act, "brightness") == "255"
    with pytest.raises(NotFoundError, match="beagleplay names :wlan"):
        status_led(act, load("beagleplay"))


@pytest.mark.parametrize(
    ("number", "text"), [(errno.EACCES, "permission denied"), (errno.ENODEV, "no such device")]
)
def test_an_led_we_may_not_use_is_an_error_with_its_reason(
    act: Any, monkeypatch: pytest.MonkeyPatch, number: int, text: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, "No such device" if number == errno.ENODEV else "Permission denied")

    monkeypatch.setattr("pathlib.Path.write_text", refuse)
    with pytest.raises(UnavailableError, match=text) as raised:
        KernelLed(act, "ACT")
    assert bool(raised.value.hint) == (number == errno.EACCES)


class Value(Enum):
    ACTIVE = 1
    INACTIVE = 0


class FakeRequest:
    def __init__(self, offset: int, settings: Any) -> None:
        self.values = {offset: settings.output_value}
        self.settings = settings
        self.released = False

    def __bool__(self) -> bool:
        return not self.released

    def set_value(self, offset: int, to: Value) -> None:
        assert offset in self.values
        self.values[offset] = to

    def release(self) -> None:
        self.released = True


class FakeGpiod(ModuleType):
    """What we use of gpiod 2, over chips that are files: ``LABEL`` and a line name a line."""

    def __init__(self) -> None:
        super().__init__("gpiod")
        self.line = SimpleNamespace(Value=Value, Direction=SimpleNamespace(OUTPUT="output"))
        self.requests: list[tuple[str, FakeRequest]] = []
        self.busy = False

    def is_gpiochip_device(self, path: str) -> bool:
        return "gpiochip" in path

    def Chip(self, path: str) -> Any:
        label, *names = Path(path).read_text().splitlines()

        def offset(line: str | int) -> int:
            if isinstance(line, int):
                return line
            if line not in names:
                raise OSError(errno.ENOENT, "line not found")
            return names.index(line)

        class Opened:
            line_offset_from_id = staticmethod(offset)

            def get_info(self) -> Any:
                return SimpleNamespace(label=label, num_lines=len(names))

            def __enter__(self) -> Opened:
                return self

            def __exit__(self, *_: object) -> None:
                pass

        return Opened()

    def LineSettings(self, **settings: Any) -> Any:
        return SimpleNamespace(**settings)

    def request_lines(self, path: str, *, consumer: str, config: dict[int, Any]) -> FakeRequest:
        if self.busy:
            raise OSError(errno.EBUSY, "Device or resource busy")
        ((offset, settings),) = config.items()
        assert consumer == "ockamlite"
        request = FakeRequest(offset, settings)
        self.requests.append((path, request))
        return request


@pytest.fixture
def gpiod(tree: Any, monkeypatch: pytest.MonkeyPatch) -> FakeGpiod:
    """A Pi 5 whose header is on the chip with number 4, as older kernels have it."""
    tree.write("/dev/gpiochip0", "gpio-brcmstb@107d508500\nPIN_A\nPIN_B\n")
    tree.write("/dev/gpiochip4", "pinctrl-rp1\n" + "\n".join(f"GPIO{number}" for number in range(28)))
    fake = FakeGpiod()
    monkeypatch.setitem(sys.modules, "gpiod", fake)
    return fake


def test_a_line_is_found_by_the_label_of_its_chip(tree: Any, gpiod: FakeGpiod) -> None:
    with GpioLed(tree, 17, chip="pinctrl-rp1") as led:
        path, request = gpiod.requests[0]
        assert path.endswith("/dev/gpiochip4")
        led.on()
        assert request.values == {17: Value.ACTIVE}
    assert request.values == {17: Value.INACTIVE}
    assert request.released
    led.close()


def test_a_number_counts_on_the_chip_of_that_label_only(tree: Any, gpiod: FakeGpiod) -> None:
    GpioLed(tree, 1, chip="pinctrl-rp1")
    assert gpiod.requests[0][0].endswith("/dev/gpiochip4")


def test_a_line_is_found_by_its_name_on_any_chip(tree: Any, gpiod: FakeGpiod) -> None:
    GpioLed(tree, "GPIO5", active_low=True)
    path, request = gpiod.requests[0]
    assert path.endswith("/dev/gpiochip4")
    assert list(request.values) == [5]
    assert request.settings.active_low


def test_a_line_that_is_not_there_lists_the_chips(tree: Any, gpiod: FakeGpiod) -> None:
    with pytest.raises(NotFoundError, match="chips: gpio-brcmstb@107d508500, pinctrl-rp1"):
        GpioLed(tree, "NOPE")
    with pytest.raises(NotFoundError):
        GpioLed(tree, 99, chip="pinctrl-rp1")


def test_a_number_without_a_chip_is_refused_since_chips_are_renumbered(tree: Any) -> None:
    with pytest.raises(UsageError, match="needs the label"):
        GpioLed(tree, 17)


def test_a_line_in_use_is_an_error_that_says_how_to_find_its_user(tree: Any, gpiod: FakeGpiod) -> None:
    gpiod.busy = True
    with pytest.raises(UnavailableError, match="in use") as raised:
        GpioLed(tree, "GPIO5")
    assert "gpioinfo" in raised.value.hint


def test_pins_without_the_extra_say_which_package_is_missing(
    tree: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gpiod", None)
    with pytest.raises(UsageError) as raised:
        GpioLed(tree, "GPIO5")
    assert raised.value.hint == "pip install 'ockamlite[gpio]'"


def test_what_we_use_of_gpiod_is_there() -> None:
    real = pytest.importorskip("gpiod", reason="pip install 'ockamlite[gpio]'")
    assert callable(real.request_lines)
    assert callable(real.is_gpiochip_device)
    assert {"get_info", "line_offset_from_id", "__enter__", "__exit__"} <= set(dir(real.Chip))
    assert {"set_value", "release", "__bool__"} <= set(dir(real.LineRequest))
    settings = real.LineSettings(
        direction=real.line.Direction.OUTPUT, active_low=True, output_value=real.line.Value.INACTIVE
    )
    assert settings.active_low
