"""Exchanges by the clock: one layer's rows to the shards and back.

Knows: where one begins and ends, and how many bytes it would put on the bus.
Does not know: how many there are, or what they are for.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

from xpod.attention.hop import Hop
from xpod.cli.bench.hop.questions import Questions
from xpod.cli.bench.hop.split import Split, Times
from xpod.cli.bench.hop.watched import WatchedLine
from xpod_proto import ExpertReply, Message, pieces_of, size_of


@dataclass(frozen=True, slots=True)
class Exchanged:
    """Its parts, how many calls it took, and the bytes of the call whose answer came last."""

    layer: int
    split: Split
    calls: int
    call_bytes: int
    reply_bytes: int


class Exchanger:
    """For the thread of the hop."""

    def __init__(self, hop: Hop, line: WatchedLine, questions: Questions) -> None:
        self._hop, self._line, self._questions = hop, line, questions

    def exchange(self, rows: int) -> Exchanged | None:
        """So many rows there and back; None where a call had to be made again, which tells nothing of the way.

        Raises ExpertsUnavailable, BusClosed.
        """
        hop, line, question = self._hop, self._line, self._questions.ask(rows)
        retries, calls = hop.retries, hop.calls
        line.begin()
        began = perf_counter()
        under_way = hop.begin(*question)
        asked = perf_counter()
        hop.finish(under_way)
        ended = perf_counter()
        if hop.retries != retries or line.last is None or not isinstance(line.last.message, ExpertReply):
            return None
        ticket, reply = line.last.ticket, line.last.message
        times = Times(began, line.ready[ticket], asked, line.came, ended)
        split = Split.of(times, reply.queued_us, reply.computed_us)
        return Exchanged(question.layer, split, hop.calls - calls, _bytes(line.calls[ticket]), _bytes(reply))


def _bytes(message: Message) -> int:
    """As many as go over the bus where no memory is shared."""
    return size_of(pieces_of(message))
