"""The pytest plugin as a user's tests meet it: in a pytest of its own, with and without other plugins."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
USERS_TEST = ROOT / "examples/pytest/test_thermometer.py"
BOARD_TEST = ROOT / "examples/pytest/test_small_board.py"

pytest_plugins = ["pytester"]


@pytest.fixture
def try_out(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pytest.RunResult]:
    """Runs tests with our plugin, installed or not, in a process of their own."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def run(source: str, *arguments: str, asyncio: bool = False) -> pytest.RunResult:
        pytester.makepyfile(source)
        auto = ["-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function"]
        others = auto if asyncio else ["-p", "no:asyncio"]
        ours = ["-p", "no:ockamlite", "-p", "boards.pytest_plugin"]
        return pytester.runpytest_subprocess(*ours, *others, "-p", "no:cacheprovider", *arguments)

    return run


@pytest.mark.parametrize("asyncio", [False, True], ids=["alone", "with pytest-asyncio"])
def test_a_users_test_runs(try_out: Any, asyncio: bool) -> None:
    try_out(USERS_TEST.read_text(), "-W", "error", asyncio=asyncio).assert_outcomes(passed=1)


def test_the_users_test_has_less_than_30_lines() -> None:
    assert len(USERS_TEST.read_text().splitlines()) < 30


def test_a_failure_tells_its_seed_and_what_was_said_before(try_out: Any) -> None:
    source = """
        async def test_it(network):
            here, there = await network.node("here"), await network.node("there")
            hop = await network.memory(here, there)
            link = await here.connect(hop.endpoint)
            await here.ask(link.route / "echo", b"x")
            raise AssertionError(f"seed is {network.seed}")
    """
    result = try_out(source)
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    told = re.search(r"--ockamlite-seed (\d+) repeats this run", text)
    assert told is not None
    assert f"seed is {told[1]}" in text
    assert re.search(r"0\.000000 .*-> ?\|.* echo <- ~1, over memory:here-there", text)
    assert f"seed is {told[1]}" in try_out(source, "--ockamlite-seed", told[1]).stdout.str()


def test_a_seed_repeats_a_run_and_another_does_not(try_out: Any) -> None:
    source = """
        import os
        async def test_it(network):
            raise AssertionError(f"drew {os.urandom(8).hex()}")
    """
    outputs = [try_out(source, "--ockamlite-seed", seed).stdout.str() for seed in ("1", "1", "2")]
    drawn = [re.findall(r"^E .*Error: drew (\w+)", output, re.MULTILINE) for output in outputs]
    assert drawn[0]
    assert drawn[0] == drawn[1] != drawn[2]


def test_time_is_virtual_unless_the_test_says_otherwise(try_out: Any) -> None:
    source = """
        import asyncio, pytest, time

        async def test_virtual(network):
            await asyncio.sleep(3600)

        @pytest.mark.ockamlite(real_time=True)
        async def test_real(network):
            hop = await network.udp(await network.node("a"), await network.node("b"))
            link = await network.nodes[0].connect(hop.endpoint)
            assert (await network.nodes[0].ask(link.route / "echo", b"x")).payload == b"x"

        @pytest.mark.ockamlite(within_s=10)
        async def test_too_long(network):
            await asyncio.sleep(11)

        class TestMethods:
            @pytest.mark.parametrize("seconds", [1, 1000])
            async def test_method(self, network, tmp_path, seconds):
                await asyncio.sleep(seconds)
                assert tmp_path.exists()

        def test_a_network_in_a_function_without_async(network):
            async def body():
                await asyncio.sleep(3600)
                return "done"
            assert network.run(body()) == "done"
    """
    result = try_out(source, "--strict-markers", "--durations=0", asyncio=True)
    result.assert_outcomes(passed=5, failed=1)
    assert "TimeoutError" in result.stdout.str()


def test_a_fixture_of_that_name_that_is_not_ours_is_left_alone(try_out: Any) -> None:
    source = """
        import asyncio, pytest

        @pytest.fixture
        def network():
            return "mine"

        async def test_it(network):
            assert network == "mine"
            assert asyncio.get_running_loop().time() > 0.5
    """
    try_out(source, asyncio=True).assert_outcomes(passed=1)


def test_an_unknown_word_in_the_marker_is_an_error(try_out: Any) -> None:
    source = """
        import pytest

        @pytest.mark.ockamlite(minutes=3)
        async def test_it(network):
            pass
    """
    result = try_out(source)
    result.assert_outcomes(failed=1)
    assert "minutes" in result.stdout.str()


def test_the_plugin_costs_next_to_nothing_until_it_is_used() -> None:
    program = (
        "import sys, pytest; before = set(sys.modules)\n"
        "import boards.pytest_plugin\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["boards", "boards.pytest_plugin"]


def test_the_plugin_is_found_where_ockamlite_is_installed(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"ockamlite": "boards.pytest_plugin"}
    installed = pytester.mkdir("site") / "ockamlite-0.1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: ockamlite\nVersion: 0.1\n")
    (installed / "entry_points.txt").write_text("[pytest11]\nockamlite = boards.pytest_plugin\n")
    monkeypatch.setenv("PYTHONPATH", f"{installed.parent}:{ROOT}")
    pytester.makepyfile(USERS_TEST.read_text())
    pytester.runpytest_subprocess("-p", "no:asyncio", "-W", "error").assert_outcomes(passed=1)


@pytest.mark.parametrize("path", [USERS_TEST, BOARD_TEST], ids=lambda path: path.stem)
def test_the_page_shows_the_users_test(path: Path) -> None:
    assert path.read_text() in (ROOT / "docs/pytest.md").read_text()


def test_a_users_test_of_a_board_runs(try_out: Any) -> None:
    try_out(BOARD_TEST.read_text(), "-W", "error").assert_outcomes(passed=1)


def test_a_program_that_does_not_fit_its_board_fails_the_test_with_the_reason(try_out: Any) -> None:
    source = BOARD_TEST.read_text().replace("memory_mb=256", "memory_mb=12")
    result = try_out(source)
    result.assert_outcomes(failed=1)
    assert "its program asked for more than the board's 12 MB of memory" in result.stdout.str()
