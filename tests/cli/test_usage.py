"""What cannot be understood ends with 64, one line that says why, and one that says what to try."""

from __future__ import annotations

from typing import Any

import pytest

WHO = "I" + "0" * 64


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("", "which command? outlet, inlet"),
        ("identity", "which command? create"),
        ("nonsense", "no such command 'nonsense'"),
        ("inlet", "missing argument 'BIND'"),
        ("relay --nonsense", "no such option"),
        ("relay --output xml", "'xml' is not one of"),
        ("completion tcsh", "'tcsh' is not one of"),
        ("inlet tcp:127.0.0.1:0", "how to get to the outlet"),
        ("inlet tcp:127.0.0.1:0 --relay tcp:h:1 --trust-everyone", "--relay needs --name"),
        (f"inlet tcp:127.0.0.1:0 --via tcp:h:1 --name x --allow {WHO}", "no --relay is given"),
        ("inlet nonsense --via tcp:h:1", "endpoint, column 1: 'nonsense' is not KIND:DETAILS"),
        ("inlet serial:/dev/x --via tcp:h:1", "portals carry tcp:"),
        ("inlet tcp:127.0.0.1:0 --via tcp:h:1,foo:x", "route hop 2, column 9: unknown kind 'foo'"),
        ("inlet tcp:127.0.0.1:0 --via tcp:h:1,,x", "route hop 2, column 9: the hop is empty"),
        ("inlet tcp:127.0.0.1:0 --to a,tcp:h:1", "route hop 1, column 1: a route begins with a link"),
        ("inlet tcp:127.0.0.1:0 --via tcp:h:1,memory:x", "route hop 2, column 9: a memory link can only"),
        ("inlet tcp:127.0.0.1:0 --via mqtt:x --trust-everyone", "no transport for mqtt: is installed"),
        (f"inlet tcp:127.0.0.1:0 --to tcp:h:1,outlet --allow {WHO}", "--allow cannot hold"),
        (f"inlet tcp:127.0.0.1:0 --via tcp:h:1 --allow-relay {WHO}", "--allow-relay cannot hold"),
        ("inlet tcp:127.0.0.1:0 --relay tcp:h:1 --name a/b", "cannot be a relay's name"),
        ("outlet tcp:h:22 --trust-everyone", "how to get to this outlet"),
        ("outlet tcp:0.0.0.0:22 --listen tcp:127.0.0.1:0 --insecure", "every address of this machine"),
        ("outlet tcp:h:0 --listen tcp:127.0.0.1:0 --insecure", "nothing answers at port 0"),
        ("outlet tcp:h:22 --listen tcp:127.0.0.1:0 --allow nobody", "'nobody' is not an identifier"),
        ("outlet tcp:h:22 --listen tcp:h:1 --name x --insecure", "no --relay is given"),
        (f"node --allow {WHO} --trust-everyone", "contradict each other"),
        ("node --insecure --service echo", "address echo is taken"),
        ("node --identity x --ephemeral --insecure", "exclude each other"),
        ("node --identity nobody --insecure", "no identity 'nobody'"),
        ("relay --listen tcp:127.0.0.1:99999", "endpoint, column 5: port 99999"),
        ("relay --listen tcp:127.0.0.1:0 --forward x:1", "known kinds are"),
        ("send tcp:h:1,echo", "missing argument 'TEXT'"),
        ("send tcp:h:1,echo --hex 0", "an odd number of digits"),
        ("send tcp:h:1,echo --hex 0g", "'g' is no hex digit"),
        ("send tcp:h:1,echo --hex --raw 00", "exclude each other"),
        ("send tcp:h:1,echo x --timeout soon", "'soon' is not a valid float"),
        ("send tcp:h:1,echo x --timeout nan", "'nan' is not a number"),
        ("send tcp:h:1,echo x --timeout inf", "not in the range"),
        ("scan serial --seconds nan", "'nan' is not a number"),
        ("emulate --serial ./a:./b --loss nan", "'nan' is not a number"),
        ("identity create a/b", "cannot name an identity"),
        ("identity show nobody", "no identity 'nobody'"),
    ],
)
def test_what_cannot_be_understood_is_told_in_a_line(run: Any, arguments: str, says: str) -> None:
    done = run(*arguments.split())
    errors = [line for line in done.stderr.splitlines() if "warning: " not in line]
    assert (done.returncode, done.stdout) == (64, "")
    assert errors[0].startswith("ockamlite: ")
    assert says in errors[0]
    assert len(errors) == 1 or (len(errors) == 2 and errors[1].startswith("try: "))


@pytest.mark.parametrize("option", ["--service", "--listener"])
@pytest.mark.parametrize("name", ["", "x" * 257])
def test_a_name_that_no_route_could_hold_is_refused(run: Any, option: str, name: str) -> None:
    for command in (["node"], ["outlet", "tcp:127.0.0.1:22", "--listen", "tcp:127.0.0.1:0"]):
        done = run(*command, "--insecure", option, name)
        assert (done.returncode, done.stdout) == (64, "")
        assert done.stderr.startswith(f"ockamlite: {option}: a")


@pytest.mark.parametrize(
    ("arguments", "choices"),
    [
        ("outlet tcp:127.0.0.1:22 --listen tcp:127.0.0.1:0", ["--allow", "--trust-everyone", "--insecure"]),
        ("node", ["--allow", "--trust-everyone", "--insecure"]),
        ("inlet tcp:127.0.0.1:0 --via tcp:127.0.0.1:1", ["--allow", "--trust-everyone"]),
        ("send tcp:127.0.0.1:1,secure:x,echo hi", ["--allow", "--trust-everyone"]),
    ],
)
def test_who_trusts_nobody_is_shown_the_choices_and_its_own_identifier(
    run: Any, homes: Any, arguments: str, choices: list[str]
) -> None:
    home, identifier = homes["pi"]
    done = run(*arguments.split(), home=home)
    assert done.returncode == 64
    assert identifier in done.stderr
    assert all(choice in done.stderr for choice in choices)
