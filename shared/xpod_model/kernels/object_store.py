"""Compiled code on disk, so that only the first process on a machine waits for the compiler.

It is code that will be run: a file is used only if it is this user's, nobody else can write to it, and its content is
what was written. It knows nothing of LLVM. Without a directory to write to, every process compiles.
"""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

DIGEST = 32


class ObjectStore:
    """One file, named by all that its content depends on."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def of(cls, *depends_on: str) -> Self:
        name = hashlib.sha256("\0".join(depends_on).encode()).hexdigest()
        root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        return cls(Path(root) / "xpod" / "kernels" / f"{name[:32]}.o")

    def get(self, make: Callable[[], bytes]) -> bytes:
        """The code; made, by one process at a time, if there is none."""
        known = self.read()
        if known is not None:
            return known
        with self._alone():
            known = self.read()  # somebody else's, meanwhile
            if known is None:
                known = make()
                self.write(known)
            return known

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While others wait, where there is a directory to wait in."""
        with ExitStack() as stack:
            with suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                lock = stack.enter_context((self._path.parent / "lock").open("wb"))
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def read(self) -> bytes | None:
        """The code; None if there is none, or none to trust."""
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                    return None
                content = file.read()
        except OSError:
            return None
        digest, code = content[:DIGEST], content[DIGEST:]
        return code if hashlib.sha256(code).digest() == digest else None

    def write(self, code: bytes) -> None:
        """Keep it, whole or not at all."""
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, name = tempfile.mkstemp(dir=self._path.parent)  # 0600
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(hashlib.sha256(code).digest() + code)
                Path(name).replace(self._path)
            except OSError:
                Path(name).unlink(missing_ok=True)
                raise
