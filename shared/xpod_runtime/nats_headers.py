"""NATS' headers: what is said beside a message's bytes.

Knows: the form of PUB, HPUB and a header block (docs.nats.io, "NATS protocol"), and the one header that xpod sends.
Does not know: connections, or what a trace is.
"""

from __future__ import annotations

from xpod_runtime.trace_context import HEADER

_VERSION = b"NATS/1.0"
_NAME = HEADER.encode() + b":"


def head_of(subject: str, reply: str, size: int, trace: str = "") -> bytes:
    """All that goes before a message's `size` bytes."""
    if not trace:
        return f"PUB {subject} {reply} {size}\r\n".encode()
    header = b"%s\r\n%s %s\r\n\r\n" % (_VERSION, _NAME, trace.encode())
    return f"HPUB {subject} {reply} {len(header)} {len(header) + size}\r\n".encode() + header


def trace_in(header: bytes) -> str:
    """The trace in a header block; empty where it has none."""
    for line in header.split(b"\r\n"):
        if line[: len(_NAME)].lower() == _NAME:
            return line[len(_NAME) :].strip().decode("ascii", "replace")
    return ""
