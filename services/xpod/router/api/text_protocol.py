"""What the HTTP face asks of a tokenizer.

Knows: the few operations on text that an API needs; xpod_model.text offers them.
Does not know: any tokenizer library or file format.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any, Literal, Protocol


class TextStream(Protocol):
    """Tokens in, whole characters out: half a UTF-8 character is held until the rest of it arrives."""

    def push(self, token_id: int, /) -> str: ...

    def flush(self) -> str:
        """What is still held; bytes that never became a character come as U+FFFD."""


class Text(Protocol):
    """Text to tokens and back."""

    def encode(self, text: str, /, *, add_special: bool = True) -> list[int]:
        """Raises ModelError."""

    def most_characters(self, tokens: int, /) -> int:
        """A text of more is more tokens than that."""

    def decode(self, ids: Sequence[int], /, *, skip_special: bool = True) -> str: ...

    def apply_chat_template(self, messages: Sequence[dict[str, Any]], /, **kw: Any) -> str: ...

    @property
    def added_tokens(self) -> Container[str]:
        """Texts that are one token wherever they stand."""

    @property
    def has_template(self) -> bool:
        """Is there a chat template?"""

    @property
    def knows_tools(self) -> bool:
        """Does the chat template tell the model of tools?"""

    @property
    def call_form(self) -> Literal["json", "tagged"]:
        """How the model writes calls of tools, as its chat template tells it to."""

    def token(self, token_id: int, /) -> str: ...

    def token_bytes(self, token_id: int, /) -> bytes: ...

    def stream(self) -> TextStream: ...
