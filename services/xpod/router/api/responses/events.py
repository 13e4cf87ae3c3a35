"""The events of a response, from its pieces: the same pieces give the same events, number for number.

Pure. Knows: the order and the words of the Responses API's events, what an item of the output is. Does not know:
sessions, time, or who listens.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from xpod.router.api.call_reader import CallDelta
from xpod.router.api.choice import Piece
from xpod.router.api.logprobs import chat_logprobs
from xpod.router.api.responses.body import response_of, usage_of
from xpod.router.api.responses.items import Json
from xpod.router.api.responses.record import End, Record
from xpod.router.api.text_protocol import Text


@dataclass(slots=True)
class Message:
    """Words, as far as they are there."""

    id: str
    text: str = ""
    logprobs: list[Json] = field(default_factory=list)

    def part(self) -> Json:
        return {
            "type": "output_text",
            "text": self.text,
            "annotations": [],
            "logprobs": list(self.logprobs),
        }

    def body(self, status: str) -> Json:
        empty = status == "in_progress" and not self.text
        content = [] if empty else [self.part()]
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": content,
        }


@dataclass(slots=True)
class Call:
    """A call of a function, as far as it is there."""

    id: str
    call_id: str
    name: str
    arguments: str = ""

    def body(self, status: str) -> Json:
        return {
            "id": self.id,
            "type": "function_call",
            "call_id": self.call_id,
            "name": self.name,
            "arguments": self.arguments,
            "status": status,
        }


class Narrator:
    """Tells one response from its beginning. `begin`, `take` for each piece, and `finish` return events."""

    def __init__(self, record: Record, text: Text) -> None:
        self.items: list[Json] = []
        """The output, but for what is still open."""
        self._record = record
        self._text = text
        self._number = 0
        self._open: Message | Call | None = None
        self._blank = ""
        """White space that becomes words if more follows, and nothing if a call does."""
        self._likely: list[Json] = []
        self._fresh_ids: list[int] = []
        self._ids: list[int] = []
        self._count = 0

    # what there is

    @property
    def status(self) -> str:
        return "queued" if self._record.request.background and not self._count else "in_progress"

    def response(self, end: End | None = None, cached: int = 0) -> Json:
        """The object as it is now."""
        if end is None:
            items = self.items if self._open is None else [*self.items, self._open.body("in_progress")]
            return response_of(self._record, self.status, items)
        body = response_of(self._record, end.status, self.items, end)
        if end.status in ("completed", "incomplete"):
            body["usage"] = usage_of(self._record, self._count, cached)
        if self._record.request.return_token_ids:
            body["xpod"]["token_ids"] = self._ids
        return body

    @property
    def number(self) -> int:
        """Of the next event."""
        return self._number

    # what happens

    def begin(self) -> list[Json]:
        """The events before the first token."""
        if not self._record.request.background:
            return [self._state("created"), self._state("in_progress")]
        return [self._state("created"), self._state("queued")]

    def take(self, piece: Piece) -> list[Json]:
        """The events of the next piece."""
        self._count += 1
        first = self._count == 1 and self._record.request.background
        events = [self._state("in_progress")] if first else []
        self._note(piece)
        if isinstance(self._open, Call):
            return events + self._take_calls(piece.calls) + self._take_words(piece.text)
        return events + self._take_words(piece.text) + self._take_calls(piece.calls)

    def finish(self, end: End) -> list[Json]:
        """The last events."""
        events = []
        if not self.items and self._open is None and end.status in ("completed", "incomplete"):
            events += self._begin(Message(self._id("msg")))
            events += self._say_words(self._blank)
        events += self._close("completed" if end.status == "completed" else "incomplete")
        return [*events, self._event(end.status, response=self.response(end, end.cached))]

    # tokens

    def _note(self, piece: Piece) -> None:
        output = piece.output
        self._ids.append(output.token)
        self._fresh_ids.append(output.token)
        if self._record.request.logprobs and output.finish != "stop":
            self._likely += chat_logprobs(self._text, [piece])["content"]

    # words

    def _take_words(self, text: str) -> list[Json]:
        if not text:
            return []
        events = []
        if not isinstance(self._open, Message):
            self._blank += text
            if not self._blank.strip():
                return []
            text, self._blank = self._blank, ""
            events = [*self._close("completed"), *self._begin(Message(self._id("msg")))]
        return events + self._say_words(text)

    def _say_words(self, text: str) -> list[Json]:
        message = self._open
        assert isinstance(message, Message)
        likely, self._likely = self._likely, []
        message.text += text
        message.logprobs += likely
        if not text:
            return []
        where = {"output_index": len(self.items), "content_index": 0}
        return [
            self._event(
                "output_text.delta",
                item_id=message.id,
                **where,
                delta=text,
                logprobs=likely,
                **self._token_ids(),
            )
        ]

    def _token_ids(self) -> Json:
        """With words, all tokens since the last words."""
        ids, self._fresh_ids = self._fresh_ids, []
        return {"token_ids": ids} if self._record.request.return_token_ids else {}

    # calls

    def _take_calls(self, calls: tuple[CallDelta, ...]) -> list[Json]:
        events = []
        for delta in calls:
            self._blank, self._likely = "", []
            if delta.id:
                events += self._close("completed")
                events += self._begin(Call(self._id("fc"), delta.id, delta.name))
            call = self._open
            assert isinstance(call, Call)
            call.arguments += delta.arguments
            if delta.arguments:
                where = {"item_id": call.id, "output_index": len(self.items)}
                more = self._token_ids()
                events.append(
                    self._event("function_call_arguments.delta", **where, delta=delta.arguments, **more)
                )
        return events

    # items

    def _id(self, kind: str) -> str:
        return f"{kind}_{self._record.name}_{len(self.items)}"

    def _begin(self, item: Message | Call) -> list[Json]:
        self._open = item
        index = len(self.items)
        events = [self._event("output_item.added", output_index=index, item=item.body("in_progress"))]
        if isinstance(item, Message):
            where = {"item_id": item.id, "output_index": index, "content_index": 0}
            events.append(self._event("content_part.added", **where, part=item.part()))
        return events

    def _close(self, status: str) -> list[Json]:
        item, self._open = self._open, None
        if item is None:
            return []
        where: Json = {"item_id": item.id, "output_index": len(self.items)}
        if isinstance(item, Message):
            item.logprobs += self._likely
            self._likely = []
            at = where | {"content_index": 0}
            events = [
                self._event("output_text.done", **at, text=item.text, logprobs=list(item.logprobs)),
                self._event("content_part.done", **at, part=item.part()),
            ]
        else:
            status = "completed" if _whole(item.arguments) else "incomplete"
            events = [
                self._event(
                    "function_call_arguments.done", **where, name=item.name, arguments=item.arguments
                ),
            ]
        body = item.body(status)
        self.items.append(body)
        return [*events, self._event("output_item.done", output_index=len(self.items) - 1, item=body)]

    # events

    def _state(self, name: str) -> Json:
        status = "queued" if self._record.request.background and name != "in_progress" else "in_progress"
        return self._event(name, response=response_of(self._record, status))

    def _event(self, kind: str, /, **fields: object) -> Json:
        number, self._number = self._number, self._number + 1
        return {"type": f"response.{kind}", "sequence_number": number, **fields}


def _whole(arguments: str) -> bool:
    try:
        json.loads(arguments)
    except ValueError:
        return False
    return True
