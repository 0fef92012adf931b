"""What a serial endpoint may say about its line."""

from __future__ import annotations

import pytest

from ockamlite.errors import UsageError
from ockamlite.routing.endpoint import Endpoint
from transports.serial.options import LineSettings, line_settings


def settings(query: str) -> LineSettings:
    options = tuple(tuple(pair.split("=")) for pair in query.split("&")) if query else ()
    return line_settings(Endpoint("serial", "/dev/ttyUSB0", options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", LineSettings("/dev/ttyUSB0", baud=115_200, parity="N", stop_bits=1, rtscts=False)),
        ("baud=9600", LineSettings("/dev/ttyUSB0", baud=9600)),
        ("parity=even&stop=2", LineSettings("/dev/ttyUSB0", parity="E", stop_bits=2)),
        ("parity=odd&bits=8", LineSettings("/dev/ttyUSB0", parity="O")),
        ("flow=rtscts", LineSettings("/dev/ttyUSB0", rtscts=True)),
        ("rtscts=on", LineSettings("/dev/ttyUSB0", rtscts=True)),
        ("rtscts=off&flow=none", LineSettings("/dev/ttyUSB0")),
    ],
)
def test_options_are_read(query: str, expected: LineSettings) -> None:
    assert settings(query) == expected


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("baud=fast", "baud=fast is no number"),
        ("baud=", "baud= is no number"),
        ("baud=49", "not 50 to 20000000"),
        ("baud=99999999", "not 50 to 20000000"),
        ("parity=mark", "parity=mark is not one of even, none, odd"),
        ("stop=3", "stop=3 is not one of 1, 2"),
        ("bits=7", "8 data bits"),
        ("flow=xonxoff", "would stop the line"),
        ("flow=dsr", "flow=dsr is not one of none, rtscts"),
        ("rtscts=yes", "rtscts=yes is not one of off, on"),
    ],
)
def test_a_value_that_no_line_can_have_is_refused_and_the_allowed_are_listed(query: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        settings(query)


def test_the_rate_counts_every_bit_of_a_byte() -> None:
    assert LineSettings("/dev/x").bytes_per_s == 11_520
    assert LineSettings("/dev/x", parity="E", stop_bits=2).bytes_per_s == 9600
