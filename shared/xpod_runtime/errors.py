"""The exception tree of the runtime.

Knows: which errors exist, their stable codes, and how an error crosses the bus.
Does not know: any transport, or who raises what.

Callers catch broadly (`XpodError`), by cause (`BusError`) or exactly (`NoResponders`).
"""

from __future__ import annotations


class XpodError(Exception):
    """Root of every expected failure. `code` is short and stable: it goes over the wire and into metrics."""

    code: str = "error"


class BusError(XpodError):
    """The bus could not carry a message."""

    code = "bus"


class NoResponders(BusError):
    """Nobody subscribes to the subject of a request; known at once, so try elsewhere."""

    code = "no_responders"


class DeadlineExceeded(BusError):
    """No answer came in time; the peer may be slow, stopped or dead, and may have done the work."""

    code = "deadline"


class Disconnected(BusError):
    """The connection was lost before an answer came, or there is none and nothing more can be buffered."""

    code = "disconnected"


class MessageTooLarge(BusError):
    """A message is larger than the receiver lets in at all, even in chunks."""

    code = "too_large"


class BusClosed(BusError):
    """The bus was closed by this process."""

    code = "closed"


class BadMessage(BusError):
    """A peer's answer could not be decoded."""

    code = "bad_message"


class TransferFailed(BusError):
    """A chunked transfer broke off: a chunk was lost or corrupt, or the other side went away."""

    code = "transfer_failed"


class FrameLost(BusError):
    """A message in shared memory was gone when its reader came: the sender died, or the reader was seconds late."""

    code = "frame_lost"


class SlowConsumer(BusError):
    """The client dropped messages because they came faster than they were read. Fatal: order is gone."""

    code = "slow_consumer"


class StoreError(XpodError):
    """The memory of last resort does not answer, or refuses; no token depends on it."""

    code = "store"


class Busy(XpodError):
    """The receiver's mailbox is full; the request was not started and may be sent elsewhere."""

    code = "busy"


class RemoteError(XpodError):
    """A peer answered with an error. `code` is the peer's code, `message` its explanation."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.message = message


class BrokerError(XpodError):
    """A nats-server could not be started or died; one line says why."""

    code = "broker"


class ConfigError(XpodError):
    """A setting is unknown or has a bad value; one line names the setting and the value."""

    code = "config"


class RestartLimitExceeded(XpodError):
    """A child failed more often than its tree allows; the failure leaves the tree."""

    code = "restart_limit"
