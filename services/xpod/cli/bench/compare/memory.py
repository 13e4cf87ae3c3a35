"""What memory processes take, and what a pod may.

Knows: /proc, and the budget.
Does not know: which processes belong to whom.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

TORCH_KINDS = frozenset({"prefill", "decode", "expert"})
WEIGHTS_SHARE = 1.35
TORCH_BYTES = 250_000_000
OTHER_BYTES = 80_000_000


def pss(pid: int) -> int | None:
    """Proportional set size in bytes: pages that are shared count for each sharer's part. None where unknown."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(fields["Pss"].split()[0]) * 1024 if "Pss" in fields else None


def pss_by_kind(processes: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Sums over (kind, pid); empty where one is unknown: part of a sum is no figure."""
    sums: dict[str, int] = {}
    for kind, pid in processes:
        size = pss(pid)
        if size is None:
            return {}
        sums[kind] = sums.get(kind, 0) + size
    return sums


def budget(checkpoint_bytes: int, processes: Mapping[str, int]) -> int:
    """What a pod of so many processes of each kind may take."""
    torch = sum(count for kind, count in processes.items() if kind in TORCH_KINDS)
    others = sum(processes.values()) - torch
    return round(WEIGHTS_SHARE * checkpoint_bytes) + torch * TORCH_BYTES + others * OTHER_BYTES


def checkpoint_bytes(model: Path) -> int:
    return sum(file.stat().st_size for file in model.glob("*.safetensors"))
