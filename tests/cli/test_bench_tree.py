"""`xpod bench tree` as a user calls it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cli.conftest import Command

SMALL = ("--blocks", "2000", "--tokens", "330", "--rounds", "5", "--seed", "1")


def test_the_index_is_measured(command: Command, tmp_path: Path) -> None:
    result = command("bench", "tree", *SMALL, "--json", "--results", str(tmp_path))
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["parameters"] == {"blocks": 2000, "tokens": 330, "rounds": 5, "seed": 1}
    assert report["index"]["blocks"] == 96 * 21
    assert report["index"]["holders"] == 4
    assert 50 < report["index"]["bytes_per_block"] < 200
    assert set(report["match_ms"]) == {"whole", "half", "absent"}
    for found in report["match_ms"].values():
        assert found["count"] == 5
        assert 0 < found["p50"] <= found["p99"]
    (file,) = tmp_path.iterdir()
    assert json.loads(file.read_text()) == report


def test_a_person_gets_a_table(command: Command) -> None:
    result = command("bench", "tree", *SMALL)
    assert result.returncode == 0, result.stderr
    assert re.search(r"whole +[\d.]+ +[\d.]+ +[\d.]+\n", result.stdout)
    assert "2016 blocks at 4 holders" in result.stdout


@pytest.mark.parametrize("option", ["--blocks", "--tokens", "--rounds"])
def test_nothing_cannot_be_measured(command: Command, option: str) -> None:
    result = command("bench", "tree", option, "0")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
