"""The pytest plugin: the fixture ``network``, in whose tests hours pass in milliseconds.

An ``async`` test that asks for ``network`` is run in virtual time, whatever other plugin runs the rest.
Imported by every pytest where ockamlite is installed: nothing of ockamlite is imported before it is used.
"""

from __future__ import annotations

import inspect
import random
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from boards.network import Network

_MARKER: Final = "ockamlite"
_MOST_MESSAGES: Final = 40
"""Shown of a test that failed."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--ockamlite-seed``."""
    parser.getgroup("ockamlite").addoption(
        "--ockamlite-seed",
        type=int,
        metavar="N",
        help="Decides all chance of the fixture 'network'; another one each time if absent.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Say what the marker is for."""
    config.addinivalue_line(
        "markers",
        "ockamlite(real_time=False, within_s=...): how a test with the fixture 'network' is run: on a real "
        "clock, with sockets, if need be; and how many seconds of its clock it may take.",
    )


@pytest.fixture
def network(request: pytest.FixtureRequest) -> Network:
    """Nodes in this process, links between them that can be cut, and a trace of what they say."""
    from boards.network import Network

    seed: int | None = request.config.getoption("--ockamlite-seed")
    if seed is None:
        seed = random.SystemRandom().randrange(2**32)
    return Network(seed=seed)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an async test that uses the network, on the network's clock."""
    found = _network_of(pyfuncitem)
    function = _coroutine_function(pyfuncitem.obj)
    if found is None or function is None:
        return None
    marker = pyfuncitem.get_closest_marker(_MARKER)
    options: dict[str, Any] = dict(marker.kwargs) if marker is not None else {}
    names = inspect.signature(function).parameters
    arguments = {name: value for name, value in pyfuncitem.funcargs.items() if name in names}
    found.run(function(**arguments), **options)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to a failure what repeats it, and what was said before it."""
    report = yield
    found = _network_of(item) if report.failed else None
    if found is not None:
        report.sections.append(
            (
                "ockamlite",
                f"--ockamlite-seed {found.seed} repeats this run\n{found.trace.text(most=_MOST_MESSAGES)}",
            )
        )
    return report


def _network_of(item: pytest.Item) -> Network | None:
    """The network of a test, if it has one and it is ours."""
    module = sys.modules.get("boards.network")
    if module is None:
        return None
    found = getattr(item, "funcargs", {}).get("network")
    return found if isinstance(found, module.Network) else None


def _coroutine_function(function: Any) -> Callable[..., Coroutine[Any, Any, None]] | None:
    """The async function of a test, which another plugin may have wrapped to run it."""
    while not inspect.iscoroutinefunction(function):
        function = getattr(function, "__wrapped__", None)
        if function is None:
            return None
    return function  # type: ignore[no-any-return]
