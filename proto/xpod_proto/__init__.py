"""What is said on the bus: message types, tensor frames, subjects, codec."""

from xpod_proto import messages, subjects
from xpod_proto.codec import PROTOCOL_VERSION, decode, encode
from xpod_proto.errors import DecodeError, ProtoError
from xpod_proto.messages import *  # noqa: F403
from xpod_proto.messages import __all__ as _message_names
from xpod_proto.pieces import pieces_of, size_of
from xpod_proto.registry import Message
from xpod_proto.tensor import Tensor

__all__ = [  # noqa: PLE0604
    "PROTOCOL_VERSION",
    "DecodeError",
    "Message",
    "ProtoError",
    "Tensor",
    "decode",
    "encode",
    "messages",
    "pieces_of",
    "size_of",
    "subjects",
    *_message_names,
]
