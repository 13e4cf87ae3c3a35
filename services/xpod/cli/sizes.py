"""Sizes in bytes as people write them.

Knows: binary suffixes.
Does not know: what has that size. Pure.
"""

from __future__ import annotations

import re

from xpod.cli.errors import BAD_USAGE, CliError

_SIZE = re.compile(r"(\d+)(?:([KMGT])(?:iB)?)?", re.IGNORECASE | re.ASCII)
_SHIFTS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def size(option: str, text: str) -> int:
    """`N`, `NM` or `NMiB` (K, M, G, T: powers of 1024); raises CliError with the option's name."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise CliError(
            f"{option}: {text!r} is not a size: bytes, or K, M, G, T as in 64M or 64MiB", BAD_USAGE
        )
    return int(match[1]) << _SHIFTS[(match[2] or "").upper()]
