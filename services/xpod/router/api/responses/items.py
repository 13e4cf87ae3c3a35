"""The items of a response's input, and the chat messages that they stand for.

Knows: messages, calls of functions and what came of them, in the Responses API's words; that a model's own output may
come back as input. Does not know: what the model is asked to do with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Tag, model_validator

from xpod.router.api.errors import bad_request
from xpod.router.api.messages import CalledFunction, ChatMessage, ToolCall
from xpod.router.api.strict import Several, Strict, Utf8

Json = dict[str, Any]
Status = Literal["in_progress", "completed", "incomplete"]
_KINDS = ("message", "function_call", "function_call_output")


class InputPart(Strict):
    """A piece of text; in a message of the assistant, OpenAI calls it `output_text`."""

    neutral: ClassVar[dict[str, tuple[Any, ...]]] = {"annotations": ([],), "logprobs": ([],)}
    type: str
    text: Utf8

    @model_validator(mode="before")
    @classmethod
    def _only_text(cls, data: Any) -> Any:
        kind = data.get("type") if isinstance(data, dict) else None
        if isinstance(kind, str) and kind not in ("input_text", "output_text"):
            raise ValueError(f"content parts of type {kind!r} are not supported, only text")
        if kind == "output_text":  # what the model said before; how likely it was plays no part
            return {name: value for name, value in data.items() if name != "logprobs"}
        return data


class MessageItem(Strict):
    """A turn."""

    neutral: ClassVar[dict[str, tuple[Any, ...]]] = {"phase": ()}
    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Utf8 | Several[InputPart]
    id: Utf8 | None = None
    status: Status | None = None

    def message(self) -> ChatMessage:
        return ChatMessage(role=self.role, content=_text(self.content))


class CallItem(Strict):
    """A function that the model called."""

    neutral: ClassVar[dict[str, tuple[Any, ...]]] = {"caller": (), "namespace": (), "async": (False,)}
    type: Literal["function_call"]
    call_id: Utf8
    name: Utf8
    arguments: Utf8
    id: Utf8 | None = None
    status: Status | None = None

    @model_validator(mode="after")
    def _object(self) -> CallItem:
        self.call()
        return self

    def call(self) -> ToolCall:
        return ToolCall(id=self.call_id, function=CalledFunction(name=self.name, arguments=self.arguments))


class OutputItem(Strict):
    """What came of a call."""

    neutral: ClassVar[dict[str, tuple[Any, ...]]] = {"caller": (), "namespace": (), "name": ()}
    type: Literal["function_call_output"]
    call_id: Utf8
    output: Utf8 | Several[InputPart]
    id: Utf8 | None = None
    status: Status | None = None

    def message(self) -> ChatMessage:
        return ChatMessage(role="tool", content=_text(self.output), tool_call_id=self.call_id)


def _kind(data: Any) -> str:
    kind = data.get("type") or "message" if isinstance(data, dict) else getattr(data, "type", "message")
    return f"is {kind}"


def _known(data: Any) -> Any:
    if isinstance(data, dict) and _kind(data) not in map("is {}".format, _KINDS):
        raise ValueError(f"items of type {data['type']!r} are not supported, only {', '.join(_KINDS)}")
    return data


AnyItem = MessageItem | CallItem | OutputItem
Item = Annotated[
    Annotated[MessageItem, Tag("is message")]
    | Annotated[CallItem, Tag("is function_call")]
    | Annotated[OutputItem, Tag("is function_call_output")],
    Discriminator(_kind),
    BeforeValidator(_known),
]


def _text(content: str | Sequence[InputPart]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


def messages_of(items: Iterable[AnyItem]) -> list[ChatMessage]:
    """The turns of a chat: words of the assistant and the calls behind them are one. Raises ApiError."""
    turns: list[ChatMessage] = []
    called: set[str] = set()
    for item in items:
        if isinstance(item, CallItem):
            called.add(item.call_id)
            last = turns[-1] if turns and turns[-1].role == "assistant" else None
            if last is None:
                turns.append(ChatMessage(role="assistant", tool_calls=[item.call()]))
            else:
                turns[-1] = last.model_copy(update={"tool_calls": [*last.tool_calls, item.call()]})
            continue
        if isinstance(item, OutputItem) and item.call_id not in called:
            raise bad_request(f"no function call has the call_id {item.call_id!r}", "input", "unknown_call")
        turns.append(item.message())
    return turns


def told(item: AnyItem, own_id: str) -> Json:
    """The item as `input_items` lists it; one without an id gets `own_id`."""
    body: Json = {"id": item.id or own_id, **item.model_dump(exclude={"id"}, exclude_none=True)}
    if isinstance(item, MessageItem):
        kind = "output_text" if item.role == "assistant" else "input_text"
        texts = [item.content] if isinstance(item.content, str) else [part.text for part in item.content]
        more: Json = {"annotations": []} if item.role == "assistant" else {}
        body["content"] = [{"type": kind, "text": text, **more} for text in texts]
    return {"status": "completed", **body}
