"""Real processes of two implementations on loopback: the `ockamlite` command, and Ockam's Rust code.

The modules beside this one start, watch and stop processes, and translate one meaning into three dialects of
command line. Nothing imports `ockamlite`: the command under test is a stranger here, known by its contract.

Environment: `OCKAM_PEER` (the binary of `rust-peer/`), `OCKAM` (binaries of the `ockam` command, separated as
in PATH), `OCKAMLITE` (the command under test, default: this interpreter's), `INTEROP_TABLE` (where the page
of results is written, as `--interop-table` says).
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.register_assert_rewrite(
    "tests.interop.ockamlite_command", "tests.interop.programs", "tests.interop.rust", "tests.interop.service"
)

from tests.interop.binaries import BINARIES  # noqa: E402
from tests.interop.ockamlite_command import Ockamlite  # noqa: E402
from tests.interop.places import Place  # noqa: E402
from tests.interop.programs import FOLDER, HOST, ROOT, Programs, plain_environment  # noqa: E402
from tests.interop.rust import OckamCommand, RefusedError, RustPeer  # noqa: E402
from tests.interop.service import PortalUser, Server, Service  # noqa: E402
from tests.interop.table import Results, page  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from tests.interop.binaries import Binary
    from tests.interop.programs import Program
    from tests.interop.rust import Rust

PROGRAMS = pytest.StashKey[Programs]()
RESULTS = pytest.StashKey[Results]()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for `rust` runs with each program; one that asks for `rust_peer` with ours only."""
    for name, binaries in (("rust", BINARIES), ("rust_peer", BINARIES[:1])):
        if name in metafunc.fixturenames:
            values = [
                pytest.param(
                    binary,
                    id=binary.label.replace(" ", "-"),
                    marks=[pytest.mark.skip(reason=binary.missing)] if binary.missing else [],
                )
                for binary in binaries
            ]
            metafunc.parametrize(name, values, indirect=True, scope="module")


@pytest.fixture(scope="session")
def programs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    """The processes of the run."""
    started = Programs(tmp_path_factory.mktemp("logs"))
    request.config.stash[PROGRAMS] = started
    yield started
    started.stop_since(0)


@pytest.fixture(scope="module", autouse=True)
def _programs_of_the_module(programs: Programs) -> Iterator[None]:
    mark = programs.mark()
    yield
    programs.stop_since(mark)


@pytest.fixture(autouse=True)
def _programs_of_the_test(programs: Programs, _programs_of_the_module: None) -> Iterator[None]:
    # Fixtures of the module are set up before this one; one asked for by name in a test would end with it.
    mark = programs.mark()
    yield
    programs.stop_since(mark)


@pytest.fixture(scope="module")
def ours(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Ockamlite:
    """The command under test, with a state folder for the module."""
    return Ockamlite(tmp_path_factory.mktemp("home") / "ours", programs)


@pytest.fixture
def newcomer(programs: Programs, tmp_path: Path) -> Ockamlite:
    """The command under test on another machine: a fresh state folder."""
    return Ockamlite(tmp_path / "home", programs)


@pytest.fixture(scope="module")
def rust(
    request: pytest.FixtureRequest, programs: Programs, tmp_path_factory: pytest.TempPathFactory
) -> Rust:
    """A Rust implementation, with a home for the module."""
    binary: Binary = request.param
    if binary.is_peer:
        return RustPeer(binary.path, programs)
    return OckamCommand(binary.path, tmp_path_factory.mktemp("ockam"), programs)


@pytest.fixture(scope="module")
def rust_peer(request: pytest.FixtureRequest, programs: Programs) -> RustPeer:
    """Our own Rust program, where a test needs more than every release can do."""
    return RustPeer(request.param.path, programs)


@pytest.fixture(scope="module")
def rust_node(rust: Rust, target: str, _programs_of_the_module: None) -> Place:
    """A Rust node open to all, with an outlet to the service."""
    return rust.node(target=target)


@pytest.fixture(scope="module")
def our_node(ours: Ockamlite, _programs_of_the_module: None) -> Place:
    """An `ockamlite` node open to all."""
    return ours.listening("node", "--trust-everyone", "--insecure")[1]


@pytest.fixture(scope="session")
def place() -> type[Place]:
    """To name a place from what a ready line said."""
    return Place


@pytest.fixture
def example(programs: Programs) -> Callable[..., Program]:
    """Start one of the programs in `examples/`; skip where it is not there yet."""

    def start(name: str, *words: str) -> Program:
        path = ROOT / "examples" / f"{name}.py"
        if not path.exists():
            pytest.skip(f"examples/{name}.py is not there")
        env = plain_environment() | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        return programs.start(f"example-{name}", [sys.executable, str(path), *words], env)

    return start


@pytest.fixture
def free_port() -> int:
    """A port for a program that cannot be told 0; free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def refused() -> type[RefusedError]:
    """What a Rust client raises that gets no answer."""
    return RefusedError


@pytest.fixture(scope="session")
def target() -> Iterator[str]:
    """HOST:PORT of a web service (GET, POST, and ECHO that turns a connection into a TCP echo)."""
    with Server((HOST, 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"{HOST}:{server.server_address[1]}"
        server.shutdown()
        thread.join(5)


@pytest.fixture(scope="session")
def portal_user() -> PortalUser:
    return PortalUser()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--interop-table", metavar="PATH", default=None, help="write the page of interop results there"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "proves(scenario, direction): a row of the table of interop results")
    config.stash[RESULTS] = Results()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker("interop")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the logs of what runs to a failure; note the result for the table."""
    report = yield
    config = item.config
    if report.failed and PROGRAMS in config.stash:
        for name, log in config.stash[PROGRAMS].logs():
            report.sections.append((f"log of {name}", log))
    row = item.get_closest_marker("proves")
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    binary = parameters.get("rust") or parameters.get("rust_peer")
    if row and binary and (report.when == "call" or report.outcome != "passed"):
        config.stash[RESULTS].note(row.args, binary.label, report.outcome)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    table = config.stash[RESULTS].lines(BINARIES)
    if not table:
        return
    terminalreporter.section("interop with Ockam's Rust implementation")
    for line in table:
        terminalreporter.write_line(line)
    where = config.getoption("--interop-table", default=None) or os.environ.get("INTEROP_TABLE")
    if where:
        Path(where).write_text(page(table, BINARIES))
        terminalreporter.write_line(f"written: {where}")
