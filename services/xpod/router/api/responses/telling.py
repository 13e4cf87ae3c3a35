"""From outputs to pieces: the words and calls of a response, for whoever hears its tokens, live or kept.

Knows: what of a request decides how its tokens become text. Does not know: events, or where the tokens come from.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence

from xpod.router.api.choice import Choice, Piece
from xpod.router.api.engine_protocol import Output, Session
from xpod.router.api.metrics import Meter
from xpod.router.api.responses.record import Record
from xpod.router.api.stops import StopMatcher
from xpod.router.api.text_protocol import Text
from xpod.router.api.tool_calls import reader_of


class _Unmeasured(Meter):
    """Of what is told again."""

    def __init__(self) -> None:
        pass

    def token(self, cached: int, taken: float = 0.0) -> None:
        pass

    def end(self, reason: str) -> None:
        pass


class _Told:
    """A session that is over."""

    cached_tokens = recoveries = 0
    taken = 0.0
    attached = True

    def __init__(self, id: str, outputs: Sequence[Output]) -> None:
        self.id = id
        self._outputs = outputs

    async def __aiter__(self) -> AsyncIterator[Output]:
        for output in self._outputs:
            yield output

    async def cancel(self) -> None:
        pass

    async def leave(self) -> None:
        pass


def choice_of(record: Record, text: Text, session: Session, meter: Meter | None = None) -> Choice:
    """What turns the session's outputs into pieces; without a meter, nobody counts them."""
    request = record.request
    functions = () if request.tool_choice == "none" else request.tools
    return Choice(
        0,
        session=session,
        stream=text.stream(),
        stops=StopMatcher(request.stops),
        min_tokens=request.min_tokens,
        meter=meter or _Unmeasured(),
        reader=reader_of(text.call_form, record.session, functions) if functions else None,
    )


def pieces_of(record: Record, text: Text, outputs: Iterable[Output]) -> list[Piece]:
    """The pieces of a response whose outputs are kept."""
    choice = choice_of(record, text, _Told(record.session, ()))
    pieces = []
    for output in outputs:
        pieces.append(choice.take(output))
        if pieces[-1].finish:
            break
    return pieces
