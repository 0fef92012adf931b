"""The command: `python -m benchmarks`."""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import shutil
import signal
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from benchmarks.bench import Bench, Sizes
from benchmarks.machine import facts
from benchmarks.measures import MEASURES
from benchmarks.report import markdown, placed
from benchmarks.rounds import measured
from benchmarks.tunnels import all_tunnels

TUNNELS = ("direct", "ssh", "rust", "ockamlite")


def _names(known: tuple[str, ...], text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown) or 'nothing'}: known are {', '.join(known)}")
    return names


def _default_ockamlite() -> str:
    beside = Path(sys.executable).with_name("ockamlite")
    return str(beside) if beside.exists() else f"{shlex.quote(sys.executable)} -m ockamlite.cli.main"


def _arguments() -> argparse.Namespace:
    measures = tuple(measure.name for measure in MEASURES)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures ockamlite beside ssh -L and Ockam's portal in Rust, in interleaved rounds.",
    )
    parser.add_argument(
        "--rounds", type=int, help="how often each figure is taken (default 5; 2 with --quick)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="small sizes: shows that it works, figures are coarse"
    )
    parser.add_argument("--bulk-mib", type=int, help="MiB of a bulk transfer in each direction and round")
    parser.add_argument(
        "--only",
        type=lambda text: _names(measures, text),
        default=list(measures),
        metavar="NAMES",
        help=f"measures, of {','.join(measures)}",
    )
    parser.add_argument(
        "--tunnels",
        type=lambda text: _names(TUNNELS, text),
        default=list(TUNNELS),
        metavar="NAMES",
        help=f"tunnels, of {','.join(TUNNELS)}",
    )
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the tables into this file as well"
    )
    parser.add_argument(
        "--ockamlite", default=_default_ockamlite(), metavar="COMMAND", help="how to run ockamlite"
    )
    parser.add_argument(
        "--ockam-peer",
        default=os.environ.get("OCKAM_PEER") or "ockam-peer",
        metavar="FILE",
        help="Ockam's portal in Rust (default $OCKAM_PEER, else ockam-peer on the PATH)",
    )
    return parser.parse_args()


def _raise_file_limit() -> None:
    """A thousand connections are two thousand files at each end."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _shown_command() -> str:
    """What was typed, with programs by name: their folders are nobody's business in a published file."""
    shown = []
    for argument in sys.argv[1:]:
        option, equals, value = argument.partition("=")
        plain = value if equals else argument
        shown.append(option + equals + Path(plain).name if shutil.which(plain) else argument)
    return shlex.join(["python", "-m", "benchmarks", *shown])


def main() -> int:
    arguments = _arguments()
    sizes = Sizes.quick() if arguments.quick else Sizes()
    if arguments.bulk_mib:
        sizes = replace(sizes, bulk_mib=arguments.bulk_mib)
    rounds = arguments.rounds or (2 if arguments.quick else 5)
    _raise_file_limit()
    # What was started is stopped by leaving the stack, also when this process is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    ockamlite = shlex.split(arguments.ockamlite)
    machine = facts(ockamlite)
    remarks = [f"{rounds} rounds, {sizes.bulk_mib} MiB a bulk transfer; p50 (min..max) over the rounds."]
    tunnels = {}
    for tunnel in all_tunnels(ockamlite=ockamlite, ockam_peer=arguments.ockam_peer):
        if tunnel.name in arguments.tunnels:
            if obstacle := tunnel.obstacle():
                remarks.append(f"{tunnel.name} is not measured: {obstacle}")
            else:
                tunnels[tunnel.name] = tunnel
    for name, value in machine.items():
        print(f"{name}: {value}")
    print(*remarks, "", sep="\n", flush=True)
    tables = []
    with ExitStack() as stack:
        bench = Bench(stack, tunnels, sizes)
        for measure in MEASURES:
            if measure.name in arguments.only and measure.rows(bench):
                table = measured(measure, bench, rounds)
                tables.append(table)
                print(table.text(), flush=True)
    if arguments.markdown:
        old = arguments.markdown.read_text() if arguments.markdown.exists() else ""
        text = placed(old, markdown(tables, machine, _shown_command(), remarks))
        arguments.markdown.write_text(text)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
