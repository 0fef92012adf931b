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
from typing import TYPE_CHECKING

from benchmarks import report
from benchmarks.bench import Bench, Sizes
from benchmarks.links import LINKS, Run
from benchmarks.machine import facts
from benchmarks.measures import MEASURES
from benchmarks.rounds import measured
from benchmarks.tunnels import all_tunnels

if TYPE_CHECKING:
    from benchmarks.tables import Table

TUNNELS = ("direct", "ssh", "rust", "ockamlite")
_ALL_LINKS = "links"


def _names(known: tuple[str, ...], text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if _ALL_LINKS in names and _ALL_LINKS in known:
        names = [name for name in names if name != _ALL_LINKS] + list(LINKS)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown) or 'nothing'}: known are {', '.join(known)}")
    return names


def _default_ockamlite() -> str:
    beside = Path(sys.executable).with_name("ockamlite")
    return str(beside) if beside.exists() else f"{shlex.quote(sys.executable)} -m ockamlite.cli.main"


def _arguments() -> argparse.Namespace:
    measures = (*(measure.name for measure in MEASURES), *LINKS)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures ockamlite beside ssh -L and Ockam's portal in Rust, in interleaved rounds, "
        "and links beside their physical limits.",
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
        type=lambda text: _names((*measures, _ALL_LINKS), text),
        default=list(measures),
        metavar="NAMES",
        help=f"measures, of {','.join(measures)}; {_ALL_LINKS}: the last {len(LINKS)}",
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


def _tunnels(
    arguments: argparse.Namespace, sizes: Sizes, rounds: int, ockamlite: list[str]
) -> tuple[list[str], list[Table]]:
    """Measure the tunnels; remarks and tables."""
    remarks = [f"{rounds} rounds, {sizes.bulk_mib} MiB a bulk transfer; p50 (min..max) over the rounds."]
    tunnels = {}
    for tunnel in all_tunnels(ockamlite=ockamlite, ockam_peer=arguments.ockam_peer):
        if tunnel.name in arguments.tunnels:
            if obstacle := tunnel.obstacle():
                remarks.append(f"{tunnel.name} is not measured: {obstacle}")
            else:
                tunnels[tunnel.name] = tunnel
    print(*remarks, "", sep="\n", flush=True)
    tables = []
    with ExitStack() as stack:
        bench = Bench(stack, tunnels, sizes)
        for measure in MEASURES:
            if measure.name in arguments.only and measure.rows(bench):
                table = measured(measure, bench, rounds)
                tables.append(table)
                print(table.text(), flush=True)
    return remarks, tables


def _links(arguments: argparse.Namespace, run: Run) -> tuple[list[str], list[Table]]:
    """Measure the links; remarks and tables."""
    remarks = [
        f"In real time: {run.rounds} rounds, p50 (min..max); what a bound must not pass, by its worst."
    ]
    tables = []
    for name, measure in LINKS.items():
        if name in arguments.only:
            print(f"{name} ...", file=sys.stderr, flush=True)
            table = measure(run)
            tables.append(table)
            print(table.text(), flush=True)
    return remarks, tables


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
    for name, value in machine.items():
        print(f"{name}: {value}")
    written = []
    if any(measure.name in arguments.only for measure in MEASURES):
        remarks, tables = _tunnels(arguments, sizes, rounds, ockamlite)
        written.append((report.TUNNELS, tables, remarks))
    if any(name in arguments.only for name in LINKS):
        remarks, tables = _links(arguments, Run(rounds, arguments.quick, ockamlite))
        written.append((report.LINKS, tables, remarks))
    if arguments.markdown:
        text = arguments.markdown.read_text() if arguments.markdown.exists() else ""
        for part, tables, remarks in written:
            generated = report.markdown(part, tables, machine, _shown_command(), remarks)
            text = report.placed(part, text, generated)
        arguments.markdown.write_text(text)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
