"""Files that only their owner may read, made once.

Knows: modes, owners, replacing a file in one go. Does not know: what is in them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

DIRECTORY_MODE, SECRET_MODE = 0o700, 0o600


def private(directory: Path) -> Path:
    """The directory, made if need be, closed to others."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(DIRECTORY_MODE)
    return directory


def kept(path: Path, make: Callable[[], str]) -> str:
    """What the file holds; where there is none, what `make` makes, from now on."""
    if not path.exists():
        write(path, make())
    return path.read_text().strip()


def write(path: Path, text: str) -> None:
    """Whoever reads it meanwhile sees the old text or the new one, and nobody else can read either."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, SECRET_MODE)
    with os.fdopen(descriptor, "w") as file:
        file.write(text if text.endswith("\n") else text + "\n")
        file.flush()
        os.fsync(descriptor)
    new.replace(path)


def give(directory: Path, owner: int) -> None:
    """All of it to the user `owner` (an id)."""
    for path in (directory, *directory.rglob("*")):
        os.chown(path, owner, -1)
