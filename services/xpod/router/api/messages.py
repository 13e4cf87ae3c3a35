"""The turns of a conversation, as clients send them and as chat templates know them.

Knows: roles, text parts, calls of functions and what came of them. Does not know: sampling, or which template there is.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import model_validator

from xpod.router.api.strict import Inconsistent, Several, Strict, Utf8

_OTHERS: dict[str, tuple[Any, ...]] = dict.fromkeys(("audio", "function_call", "refusal"), ()) | {
    "annotations": ([],)
}


class TextPart(Strict):
    """A piece of a message's content."""

    type: str
    """Only text is supported."""
    text: Utf8 = ""
    """The text."""

    @model_validator(mode="before")
    @classmethod
    def _only_text(cls, data: Any) -> Any:
        kind = data.get("type") if isinstance(data, dict) else None
        if isinstance(kind, str) and kind != "text":
            raise ValueError(f"content parts of type {kind!r} are not supported, only 'text'")
        return data


class CalledFunction(Strict):
    """What was called: `arguments` is the text of a JSON object."""

    name: Utf8
    arguments: Utf8
    """The text of a JSON object."""

    @model_validator(mode="after")
    def _object(self) -> CalledFunction:
        if not isinstance(self.said, dict):
            raise Inconsistent("arguments", "not the text of a JSON object")
        return self

    @property
    def said(self) -> Any:
        """The arguments themselves; None: they make no sense."""
        try:
            return json.loads(self.arguments or "{}")
        except (ValueError, RecursionError):
            return None


class ToolCall(Strict):
    """A call that the model made before."""

    neutral = {"index": tuple(range(128))}
    id: Utf8
    """What the answer to the call refers to."""
    type: Literal["function"] = "function"
    function: CalledFunction
    """What was called."""

    def for_template(self) -> dict[str, Any]:
        """The call as chat templates know it."""
        function = {"name": self.function.name, "arguments": self.function.said}
        return {"id": self.id, "type": "function", "function": function}


class ChatMessage(Strict):
    """One turn; `developer` is OpenAI's newer word for `system`, `tool` says what came of a call."""

    neutral = _OTHERS
    role: Literal["system", "developer", "user", "assistant", "tool"]
    """Who speaks."""
    content: Utf8 | Several[TextPart] | None = None
    """What is said; absent only where there are calls."""
    name: Utf8 | None = None
    """The speaker's name, for templates that know of it."""
    tool_calls: Several[ToolCall] = []
    """Calls that the assistant made."""
    tool_call_id: Utf8 | None = None
    """Of a tool: the call that this is the answer to."""

    @model_validator(mode="after")
    def _consistent(self) -> ChatMessage:
        if self.content is None and not self.tool_calls:
            raise Inconsistent("content", "is required")
        if self.tool_calls and self.role != "assistant":
            raise Inconsistent("tool_calls", "only the assistant calls")
        if (self.role == "tool") != (self.tool_call_id is not None):
            raise Inconsistent("tool_call_id", "belongs to messages of the role 'tool', and to each of them")
        return self

    def for_template(self) -> dict[str, Any]:
        """The message as chat templates know it."""
        parts = self.content or ""
        text = parts if isinstance(parts, str) else "".join(part.text for part in parts)
        message: dict[str, Any] = {
            "role": "system" if self.role == "developer" else self.role,
            "content": text,
        }
        if self.name:
            message["name"] = self.name
        if self.tool_calls:
            message["tool_calls"] = [call.for_template() for call in self.tool_calls]
        if self.tool_call_id is not None:
            message["tool_call_id"] = self.tool_call_id
        return message
