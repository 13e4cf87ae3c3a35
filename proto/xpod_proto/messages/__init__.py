"""Message types, one module a receiver."""

from xpod_proto.messages.bus import Ack, Chunk, ChunkOpen, Credit, ErrorReply, Framed
from xpod_proto.messages.control import (
    Doubt,
    Down,
    Heartbeat,
    Hello,
    Holdings,
    LeaseHeld,
    Placement,
    Probe,
    RollCall,
    Value,
    WhatStays,
)
from xpod_proto.messages.decode import CancelSession, DecodeTask, ReplayTokens, TokenHistory
from xpod_proto.messages.expert import ExpertCall, ExpertReply
from xpod_proto.messages.journal import SessionFacts, SessionTokens
from xpod_proto.messages.mempool import (
    BlockData,
    FetchBlocks,
    FetchedBlocks,
    MatchBlocks,
    MatchedBlocks,
    StoreBlocks,
)
from xpod_proto.messages.prefill import PrefillTask
from xpod_proto.messages.router import PrefillDone, RunningSessions, SessionFailed, TokenEvent
from xpod_proto.messages.sampling import SamplingSpec

__all__ = [
    "Ack",
    "BlockData",
    "CancelSession",
    "Chunk",
    "ChunkOpen",
    "Credit",
    "DecodeTask",
    "Doubt",
    "Down",
    "ErrorReply",
    "ExpertCall",
    "ExpertReply",
    "FetchBlocks",
    "FetchedBlocks",
    "Framed",
    "Heartbeat",
    "Hello",
    "Holdings",
    "LeaseHeld",
    "MatchBlocks",
    "MatchedBlocks",
    "Placement",
    "PrefillDone",
    "PrefillTask",
    "Probe",
    "ReplayTokens",
    "RollCall",
    "RunningSessions",
    "SamplingSpec",
    "SessionFacts",
    "SessionFailed",
    "SessionTokens",
    "StoreBlocks",
    "TokenEvent",
    "TokenHistory",
    "Value",
    "WhatStays",
]
