"""Real processes, real signals: a small part of `xpod chaos drill`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pod.test_processes import xpod


@pytest.mark.timeout(300)
def test_no_fault_of_any_kind_is_seen_in_a_stream(tmp_path: Path) -> None:
    """Each kind of member killed and stopped once while 8 streams decode; every token and logprob as without it."""
    drill = xpod(
        "chaos", "drill", "--trials", "1", "--phases", "decode", "--json", data=tmp_path, timeout=280
    )
    assert drill.returncode == 0, drill.stderr
    rows = json.loads(drill.stdout)
    assert len(rows) == 14
    for row in rows:
        assert (row["streams"], row["wrong"], row["errors"]) == (8, 0, []), drill.stderr
