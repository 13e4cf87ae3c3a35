"""The README's performance tables say what the committed results say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import ROOT, Command
from xpod.cli.bench.readme import BEGIN, END, rewritten, tables

README = f"# x\n\n{BEGIN}\nold\n{END}\nmore\n"


def spread(middle: float, low: float, high: float) -> dict[str, Any]:
    return {"median": middle, "min": low, "max": high, "rounds": 3}


def comparison(rate: float) -> dict[str, Any]:
    return {
        "started": "2030-01-02T03:04:05+00:00",
        "parameters": {
            "rounds": 3,
            "model": {"name": "big"},
            "cases": {"prefill": [8, 256, 1], "decode-32": [32, 64, 64]},
        },
        "contenders": {"pod": {"budget_bytes": 5_000_000_000}, "transformers": {}},
        "figures": {
            "prefill": {
                "contenders": {
                    "pod": spread(rate, 900.0, 1100.0),
                    "transformers": spread(500.0, 490.0, 510.0),
                },
                "ratios": {"transformers": spread(2.0, 1.8, 2.2)},
            },
            "decode-32 steady": {
                "contenders": {"pod": spread(370.4, 360.0, 380.0), "transformers": None},
                "ratios": {"transformers": None},
            },
        },
        "others_cores": spread(0.1, 0.0, 0.5),
        "memory": {"pod": {"pss_bytes": spread(4.1e9, 4e9, 4.2e9), "kinds": {"nats": 1}}},
        "machine": {"cores": 2, "cpu": "Abacus"},
        "versions": {"commit": "abc"},
    }


def hop() -> dict[str, Any]:
    parts = {"pack": 0.3, "bus": 0.4, "queue": 0.05, "compute": 4.0, "unpack": 0.2, "rest": 0.95, "echo": 0.6}
    whole = {"p50": 4.95, "p95": 6.125}
    return {
        "started": "2030-01-02T03:04:05+00:00",
        "parameters": {"model": {"name": "big"}},
        "pod": {"held": {"expert-0": 1}, "frames": False},
        "figures": {"32": {"whole": whole, **{name: {"p50": value} for name, value in parts.items()}}},
        "repeated": 0,
        "others_cores": None,
        "machine": {"cores": 2, "cpu": "Abacus"},
        "versions": {"commit": "abc"},
    }


def put(directory: Path, name: str, report: dict[str, Any]) -> None:
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(json.dumps(report))


def test_the_readme_is_what_the_committed_results_give() -> None:
    text = (ROOT / "README.md").read_text()
    assert text == rewritten(text, tables(ROOT / "bench" / "results")), "xpod bench table rewrites it"


def test_the_newest_result_becomes_a_table(tmp_path: Path) -> None:
    put(tmp_path, "2030-01-02T030405Z-compare-abc.json", comparison(1000.0))
    put(tmp_path, "2029-12-31T235959Z-compare-fff.json", comparison(1.0))
    put(tmp_path, "2030-01-03T000000Z-unheard-fff.json", {})
    assert tables(tmp_path) == (
        "| tokens per second | pod | transformers | pod / transformers |\n"
        "|---|--:|--:|--:|\n"
        "| prompts of 256, 8 at once | 1000 (900-1100) | 500 (490-510) | 2.00 (1.80-2.20) |\n"
        "| answers, 32 at once: while all decode | 370 (360-380) | - | - |\n"
        "\n"
        "Medians of 3 rounds (and their range), on 2 cores of Abacus, 2030-01-02, commit abc, model `big`.\n"
        "Memory (PSS): pod 4.10 GB (budget 5.00 GB).\n"
        "Others kept 0.10 (0.00-0.50) cores busy meanwhile.\n"
    )


def test_the_hop_has_a_table(tmp_path: Path) -> None:
    put(tmp_path, "2030-01-02T030405Z-hop-abc.json", hop())
    assert tables(tmp_path) == (
        "| rows | whole | p95 | pack | bus | queue | compute | unpack | all but compute | raw echo |\n"
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n"
        "| 32 | 4.95 | 6.12 | 0.30 | 0.40 | 0.05 | 4.00 | 0.20 | 0.95 | 0.60 |\n"
        "\n"
        "Milliseconds, on 2 cores of Abacus, 2030-01-02, commit abc, model `big`.\n"
        "1 shard, all goes over NATS; medians in ms, which need not add up.\n"
    )


def test_no_results_no_table(tmp_path: Path) -> None:
    assert tables(tmp_path) == ""
    assert rewritten(README, "") == f"# x\n\n{BEGIN}\n{END}\nmore\n"


def test_the_command_rewrites_and_checks(command: Command, tmp_path: Path) -> None:
    readme, results = tmp_path / "README.md", tmp_path / "results"
    readme.write_text(README)
    put(results, "2030-01-02T030405Z-compare-abc.json", comparison(1000.0))
    arguments = ("bench", "table", "--results", str(results), "--readme", str(readme))
    checked = command(*arguments, "--check")
    assert (checked.returncode, readme.read_text()) == (4, README)
    assert "xpod bench table rewrites it" in checked.stderr
    assert command(*arguments).returncode == 0
    assert readme.read_text() == rewritten(README, tables(results))
    assert command(*arguments, "--check").returncode == 0


@pytest.mark.parametrize(
    ("text", "reason"), [(None, "cannot be read"), ("# x\n", "it has no <!-- performance")]
)
def test_a_readme_without_a_place_for_it(
    command: Command, tmp_path: Path, text: str | None, reason: str
) -> None:
    readme = tmp_path / "README.md"
    if text is not None:
        readme.write_text(text)
    result = command("bench", "table", "--readme", str(readme), "--results", str(tmp_path))
    assert result.returncode == 2
    assert reason in result.stderr
