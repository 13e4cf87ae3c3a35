"""What members tell of what they did for whom: the spans of traces."""

from typing import Annotated

from pydantic import Field

from xpod_proto.messages.control import Value
from xpod_proto.registry import Message, message

Nanoseconds = Annotated[int, Field(ge=0)]


@message(144)
class ReadTrace(Message):
    """What do you know of these traces (32 hex digits), and of those that `session` is part of? Answered by TraceSpans.

    Where neither is named, the spans of that `name` are asked for, the newest `most` of them.
    """

    asker: str
    traces: tuple[str, ...] = ()
    session: str = ""
    name: str = ""
    most: Annotated[int, Field(ge=0)] = 0


@message(145)
class SpanRecord(Message):
    """Something that was done for the trace `trace`, as part of the span `parent` (16 hex digits; empty: of none).

    `start` and `end` are nanoseconds of Unix time on the member's clock; `end` 0: it goes on. `error` says why it
    failed. `sampled`: somebody wants to see all of its trace.
    """

    trace: str
    span: str
    parent: str
    name: str
    start: Nanoseconds
    end: Nanoseconds
    attributes: dict[str, Value]
    error: str = ""
    sampled: bool = False


@message(146)
class TraceSpans(Message):
    """The spans that `member` of that kind still has."""

    member: str
    kind: str
    spans: tuple[SpanRecord, ...]
