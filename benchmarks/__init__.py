"""Measures tunnels against each other, in interleaved rounds on one machine.

Run `python -m benchmarks`; `--help` lists the measures and tunnels. Everything is reached through public
command lines (`ockamlite`, `ssh`, `sshd`, `ockam-peer`): nothing here imports the library.
"""
