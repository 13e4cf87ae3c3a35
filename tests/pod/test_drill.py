"""Real processes, real signals: a small part of `xpod chaos drill`, and a short `xpod chaos storm`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pod.test_processes import xpod


@pytest.mark.timeout(400)
def test_no_fault_of_any_kind_is_seen_in_a_stream(tmp_path: Path) -> None:
    """Each kind, and the whole pod, hit once while 8 streams decode; every token and logprob as without it."""
    drill = xpod(
        "chaos", "drill", "--trials", "1", "--phases", "decode", "--json", data=tmp_path, timeout=380
    )
    assert drill.returncode == 0, drill.stderr
    rows = json.loads(drill.stdout)
    assert len(rows) == 17
    for row in rows:
        assert (row["streams"], row["wrong"], row["errors"]) == (8, 0, []), drill.stderr
    assert [row["restart_ratio"] > 1 for row in rows if row["kind"] != "pod"] == [True] * 16
    killed = next(row for row in rows if (row["kind"], row["signal"]) == ("decode", "KILL"))
    assert killed["reopened"] > 0
    assert killed["recomputed"] <= 2 * 16 * killed["reopened"]


@pytest.mark.timeout(200)
def test_no_stream_is_wrong_in_a_storm(tmp_path: Path) -> None:
    storm = xpod(
        *("chaos", "storm", "--minutes", "0.2", "--every", "1.5", "--streams", "8", "--json"),
        data=tmp_path,
        timeout=180,
    )
    assert storm.returncode == 0, storm.stderr
    report = json.loads(storm.stdout)
    assert report["faults"]
    assert report["streams"] >= 8
    assert (report["wrong"], report["problem"]) == (0, "")
    assert {"launcher", "decode", "expert"} <= report["growth"].keys()
