"""The memory that the members of a local pod share: a directory below /dev/shm, named after the pod.

Knows: when a machine has such memory to give, and how to give it back.
Does not know: what members keep there (see `xpod_runtime.frames`).

Pods of one name on one machine share one: it goes with the last of them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from xpod_runtime.frames_directory import has_owners, sweep

SHM = Path("/dev/shm")
ENOUGH = 256 * 1024 * 1024
"""Bytes that must be free. A container often has 64 MB, which the members would fill."""


def shared_directory(pod: str, root: Path = SHM) -> Path:
    """Where the members of `pod` share memory."""
    return root / f"xpod-{pod}"


def can_share(root: Path = SHM) -> bool:
    """Whether this machine has enough memory to share, as a file system."""
    try:
        return (
            os.access(root, os.W_OK | os.X_OK) and _is_tmpfs(root) and shutil.disk_usage(root).free >= ENOUGH
        )
    except OSError:
        return False


def provide(directory: Path) -> None:
    """Makes the directory, for this user only. Raises OSError, also when it is somebody else's."""
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if directory.is_symlink() or found.st_uid != os.getuid():
        raise PermissionError(f"{directory} is somebody else's")
    directory.chmod(0o700)


def remove(directory: Path) -> None:
    """Gives it back, unless somebody still uses it or it is not ours; it need not be there."""
    try:
        if directory.is_symlink() or directory.lstat().st_uid != os.getuid():
            return
        sweep(directory)
        if not has_owners(directory):
            shutil.rmtree(directory)
    except OSError:
        return


def _is_tmpfs(path: Path) -> bool:
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return any(mount[1] == str(path) and mount[2] == "tmpfs" for mount in mounts)
