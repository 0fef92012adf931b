"""``ockamlite demo`` shows what it claims, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path
from typing import Any

from ockamlite.cli.run.demo.emulated import Tap
from ockamlite.cli.run.demo.recorder import Recorder


def children_of(pid: int) -> set[int]:
    found = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            found.add(int(entry.parent.name))
    return found


def test_the_demo_checks_everything_and_leaves_nothing(run: Any, tmp_path: Path) -> None:
    done = run("demo", "--output", "json", home=tmp_path / "state", TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["ok"] is True
    assert result["seconds"] < 20
    assert {check["name"] for check in result["checks"]} >= {"page", "file", "ciphertext", "search-works"}
    assert all(check["ok"] for check in result["checks"])
    *middle, end = result["hops"]
    assert [hop["canary_found"] for hop in middle] == [False] * 4
    assert end["canary_found"] is True
    assert [hop["transport"] for hop in result["hops"]] == ["ble", "serial", "tcp", "tcp", "tcp"]
    assert all(hop["bytes"] > 1024 * 1024 for hop in result["hops"])
    assert result["figures"]["mbit_s"] > 0
    assert list(tmp_path.iterdir()) == []


def test_the_demo_shows_each_step_in_text(run: Any, tmp_path: Path) -> None:
    shown = run("demo", TMPDIR=str(tmp_path)).stdout
    assert "laptop --tcp-- relay --tcp-- gateway 2 --serial-- gateway 1 --ble-- device" in shown
    assert "Mbit/s" in shown
    assert "checks passed" in shown.splitlines()[-1]


def test_a_kept_demo_serves_until_it_is_stopped(serve: Any, tmp_path: Path) -> None:
    kept = serve("demo", "--keep", "--output", "json", TMPDIR=str(tmp_path))
    url = json.loads(kept.line())["url"]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=10) as page:
        assert b"Hello from a device" in page.read()
    started = children_of(kept.process.pid)
    assert len(started) >= 5
    assert kept.stop() == 0
    assert not {pid for pid in started if Path(f"/proc/{pid}").exists() and os.getpgid(pid)}
    assert list(tmp_path.iterdir()) == []


async def test_the_recorder_sees_what_is_readable_in_pieces_too() -> None:
    recorder = Recorder("hop")
    stream = bytearray()
    recorder._streams.append(stream)
    for piece in (b"...can", b"ary..."):
        assert not recorder.saw(b"canary")
        stream += piece
    assert recorder.saw(b"canary")


def test_a_tap_finds_text_that_frames_have_cut() -> None:
    tap = Tap("hop", "ble")
    tap.record("there", b"..canary-0123\x62\x01\x02456789")
    tap.record("back", b"nothing")
    assert tap.saw(b"canary-0123456789")
    assert not tap.saw(b"another-text")
    assert tap.count_bytes == 29
    tap.is_recording = False
    tap.record("there", b"another-text")
    assert not tap.saw(b"another-text")
