"""The directory that processes of one host share for their frames.

Knows: the token that tells whether two processes see the same directory, and how to clear up after the dead.
Does not know: frames.
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

from xpod_runtime.frames_segment import SUFFIX, is_orphan

TOKEN_FILE = "host"
_TOKEN = re.compile(r"[0-9a-f]{16}")


def host_token(directory: Path) -> str:
    """The directory's own random name: made by the first who asks, read by the others. Raises OSError."""
    path = directory / TOKEN_FILE
    try:
        return _read_token(path)
    except FileNotFoundError:
        pass
    draft = directory / f"{TOKEN_FILE}.{secrets.token_hex(8)}"
    draft.write_text(secrets.token_hex(8))
    try:
        os.link(draft, path)  # whole at once, and by one process only
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return _read_token(path)


def sweep(directory: Path) -> int:
    """Removes what processes left that were killed; returns how many files. Raises OSError."""
    orphans = [path for path in directory.glob(f"*{SUFFIX}") if is_orphan(path)]
    for path in orphans:
        path.unlink(missing_ok=True)
    return len(orphans)


def has_owners(directory: Path) -> bool:
    """Whether anybody keeps frames there. Raises OSError."""
    return any(not is_orphan(path) for path in directory.glob(f"*{SUFFIX}"))


def _read_token(path: Path) -> str:
    token = path.read_text()
    if not _TOKEN.fullmatch(token):
        raise OSError(f"{path} holds no token")
    return token
