"""What can go wrong while measuring; each is reported in the tables and ends one measurement, not the run."""

from __future__ import annotations


class BenchmarkError(Exception):
    """A measurement that could not be made, with the reason for people."""


class WrongBytesError(BenchmarkError):
    """A tunnel delivered other bytes than were sent: its figures are worthless."""


class NotReadyError(BenchmarkError):
    """A process ended or stayed silent before it could serve."""
