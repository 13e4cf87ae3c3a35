"""Objects to JSON bytes.

Knows: floats keep every bit (Python prints the shortest text that reads back the same double).
Does not know: what is being said.
"""

from __future__ import annotations

import json
from typing import Any

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def dump(value: Any) -> bytes:
    """Compact JSON. NaN and infinity have no JSON form and raise ValueError."""
    return _encode(value).encode("utf-8", "replace")
