"""The one error that reading the wire can raise.

Knows nothing of buses or actors: a caller decides what a bad message means for it.
"""


class ProtoError(Exception):
    """Base of everything that this package raises on purpose."""


class DecodeError(ProtoError):
    """The bytes are not a message of this protocol; the text says in one line why."""
