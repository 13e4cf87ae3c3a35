"""`python terminal.py PROGRAM [ARGUMENT]…`: as somebody at a terminal who looks for a moment, and then leaves."""

from __future__ import annotations

import os
import pty
import select
import sys
import time

LOOKS_SECONDS, PATIENCE_SECONDS = 2.0, 30.0
CTRL_C, CTRL_D = b"\x03", b"\x04"
LEAVES = {"chat": CTRL_D, "top": b"q"}


def main() -> int:
    """0 where it showed something and ended when it was asked to."""
    child, terminal = pty.fork()
    if not child:
        os.execvp(sys.argv[1], sys.argv[1:])
    began, shown, presses = time.monotonic(), 0, 0
    while (gone := time.monotonic() - began) < PATIENCE_SECONDS:
        if shown and gone > LOOKS_SECONDS * (presses + 1):  # a program may not listen yet
            os.write(terminal, LEAVES.get(sys.argv[2], CTRL_C))
            presses += 1
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                shown += len(os.read(terminal, 65536))
            except OSError:  # how Linux says that nobody has the other end any more
                break
    else:
        os.kill(child, 9)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return 0 if shown and presses and code in (0, 130) else 1


if __name__ == "__main__":
    sys.exit(main())
