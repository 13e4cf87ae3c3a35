"""The turns of a conversation, as clients send them and as chat templates know them.

Knows: roles, text parts. Does not know: sampling, or which template there is.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from xpod.router.api.strict import Strict, Utf8

_NO_TOOLS: dict[str, tuple[Any, ...]] = dict.fromkeys(
    ("audio", "function_call", "refusal", "tool_call_id", "tool_calls"), ([],)
)


class TextPart(Strict):
    """A piece of a message's content."""

    type: str
    text: Utf8 = ""

    @model_validator(mode="before")
    @classmethod
    def _only_text(cls, data: Any) -> Any:
        kind = data.get("type") if isinstance(data, dict) else None
        if isinstance(kind, str) and kind != "text":
            raise ValueError(f"content parts of type {kind!r} are not supported, only 'text'")
        return data


class ChatMessage(Strict):
    """One turn; `developer` is OpenAI's newer word for `system`."""

    neutral = _NO_TOOLS
    role: Literal["system", "developer", "user", "assistant"]
    content: Utf8 | list[TextPart]
    name: Utf8 | None = None

    def for_template(self) -> dict[str, str]:
        """The message as chat templates know it."""
        parts = self.content
        text = parts if isinstance(parts, str) else "".join(part.text for part in parts)
        role = "system" if self.role == "developer" else self.role
        return {"role": role, "content": text} | ({"name": self.name} if self.name else {})
