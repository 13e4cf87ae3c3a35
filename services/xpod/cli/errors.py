"""Exit codes, and the one error that a command ends with.

Knows: what each exit code means to a script.
Does not know: who raises it, or how it is printed (see `main`).
"""

from __future__ import annotations

DONE = 0
BAD_USAGE = 2
UNREACHABLE = 3
REFUSED = 4
INTERRUPTED = 130


class CliError(Exception):
    """Ends a command: `message` is one line for stderr, `exit_code` what the shell sees."""

    def __init__(self, message: str, exit_code: int = UNREACHABLE) -> None:
        super().__init__(message)
        self.message = " ".join(message.split())
        self.exit_code = exit_code


class ConnectionLost(CliError):
    """An endpoint does not answer, or stopped in the middle: another one may go on."""


class NotThere(ConnectionLost):
    """An endpoint answers that there is no such thing."""


class StreamFailed(CliError):
    """The pod ended a stream with an error; asking again may mend it."""


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP: like Ctrl-C, but never only the end of an answer."""
