"""`python terminal.py PROGRAM [ARGUMENT]…`: as somebody at a terminal who looks for a moment, then presses Ctrl-C."""

from __future__ import annotations

import os
import pty
import select
import sys
import time

LOOKS_SECONDS, PATIENCE_SECONDS = 2.0, 30.0
CTRL_C = b"\x03"


def main() -> int:
    """0 where it showed something and ended when it was asked to."""
    child, terminal = pty.fork()
    if not child:
        os.execvp(sys.argv[1], sys.argv[1:])
    began, shown, asked = time.monotonic(), 0, False
    while time.monotonic() - began < PATIENCE_SECONDS:
        if shown and not asked and time.monotonic() - began > LOOKS_SECONDS:
            os.write(terminal, CTRL_C + (b"q" if "top" in sys.argv else b""))
            asked = True
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                shown += len(os.read(terminal, 65536))
            except OSError:  # how Linux says that nobody has the other end any more
                break
    else:
        os.kill(child, 9)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return 0 if shown and asked and code in (0, 130) else 1


if __name__ == "__main__":
    sys.exit(main())
