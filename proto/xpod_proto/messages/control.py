"""What members tell one another about themselves, on the control connection."""

from xpod_proto.registry import Message, message

Value = str | int | float | bool


@message(16)
class Hello(Message):
    """Who I am. `incarnation` differs for every process start; `fingerprint` names the numerics of its kernels.

    `frames` is the token of the memory that it shares with others on its host; empty: none.
    """

    member: str
    kind: str
    incarnation: str
    pid: int
    host: str
    protocol: int
    fingerprint: str
    state: str
    started: float
    detail: dict[str, Value]
    frames: str = ""


@message(17)
class Heartbeat(Message):
    """I live: state and load, numbered from the start of the incarnation."""

    member: str
    kind: str
    incarnation: str
    sequence: int
    state: str
    load: dict[str, Value]


@message(18)
class Down(Message):
    """`member` in that incarnation is gone."""

    member: str
    incarnation: str
    reason: str


@message(19)
class RollCall(Message):
    """Everybody: say hello (a newcomer asks this once)."""

    asker: str


@message(22)
class Probe(Message):
    """Are you there? Answered with an Ack."""

    asker: str


@message(25)
class Doubt(Message):
    """A member does not answer. Source: the suspicion of SWIM, Das, Gupta and Motivala, 2002."""

    member: str


@message(26)
class ReadMetrics(Message):
    """What do you measure? Answered with MetricsText."""

    asker: str


@message(27)
class MetricsText(Message):
    """A member's metrics, in Prometheus' text form."""

    text: str


@message(23)
class LeaseHeld(Message):
    """What the lease of the supervisors holds: who has it."""

    holder: str


@message(20)
class Holdings(Message):
    """What a shard holds now: for each MoE layer a bitmap of experts, bit e of byte e // 8 for expert e."""

    member: str
    incarnation: str
    version: int
    layers: dict[int, bytes]


@message(24)
class WhatStays(Message):
    """What do you hold, and are not about to drop? Answered with Holdings."""

    asker: str


@message(21)
class Placement(Message):
    """What each shard should hold: member to layer to bitmap. A wish; routing follows holdings."""

    epoch: int
    author: str
    shards: dict[str, dict[int, bytes]]
