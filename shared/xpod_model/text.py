"""Text to tokens and back: tokenizer, chat template, incremental detokenisation. It does not know torch.

The files are Hugging Face's: tokenizer.json, tokenizer_config.json, chat_template.jinja, special_tokens_map.json.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer

from xpod_model.config import read_json
from xpod_model.errors import ModelError, TemplateError, TextError, TokenizerError
from xpod_model.families.base import token_ids
from xpod_model.template import Refused, Template
from xpod_model.template_process import TemplateProcess
from xpod_model.vocabulary import token_bytes

SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
REPLACEMENT = "\ufffd"
SHORTENED = 4
MOST_BYTES = 256 << 20
MOST_TEMPLATE_BYTES = 1 << 20


class Text:
    """The tokenizer and chat template of a model directory."""

    def __init__(
        self, tokenizer: Tokenizer, template: str | None, specials: Mapping[str, str], apart: bool = False
    ) -> None:
        self._tokenizer, self._specials = tokenizer, dict(specials)
        self._template = None if template is None else Template(template)
        self._apart = TemplateProcess(template) if apart and template is not None else None
        self.eos_token_ids: tuple[int, ...] = ()

    @classmethod
    def load(cls, directory: Path, *, apart: bool = False) -> "Text":
        """`apart`: the chat template, if there is one, is applied in a process of its own (see `template_process`).

        Raises TokenizerError, TemplateError or ConfigError if a file is missing or damaged.
        """
        directory = Path(directory)
        path = directory / "tokenizer.json"
        if not path.is_file():
            raise TokenizerError(f"{directory} has no tokenizer.json")
        if path.stat().st_size > MOST_BYTES:
            raise TokenizerError(f"{path} is larger than {MOST_BYTES >> 20} MiB")
        with _failing(TokenizerError, f"{path} is not a tokenizer"):
            tokenizer = Tokenizer.from_file(str(path))
        settings = _optional(directory / "tokenizer_config.json")
        text = cls(tokenizer, _template(directory, settings), _specials(directory, settings), apart)
        text.eos_token_ids = text._find_eos(directory)
        return text

    @property
    def vocab(self) -> int:
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    @property
    def has_template(self) -> bool:
        return self._template is not None

    def encode(self, text: str, add_special: bool = True) -> list[int]:
        """Raises TextError: the tokenizer gives it up."""
        with _failing(TextError, "the tokenizer cannot read this text"):
            return list(self._tokenizer.encode(text, add_special_tokens=add_special).ids)

    def most_characters(self, tokens: int) -> int:
        """A text of more is more tokens than that, by far: normalizing may make it shorter, but not so much."""
        return SHORTENED * tokens * self._longest

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._tokenizer.get_vocab(with_added_tokens=True)), default=1)

    def close(self) -> None:
        """End the process of the chat template."""
        if self._apart is not None:
            self._apart.close()

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=skip_special))

    def token(self, token_id: int) -> str:
        """The tokenizer's own spelling of a token; empty if there is none."""
        return self._tokenizer.id_to_token(token_id) or ""

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for, which need not be whole characters."""
        return token_bytes(self.token(token_id), self._byte_level)

    def stream(self, skip_special: bool = True) -> "TextStream":
        return TextStream(self, skip_special)

    def apply_chat_template(self, messages: Iterable[Mapping[str, Any]], /, **variables: Any) -> str:
        """The prompt for a conversation. add_generation_prompt defaults to True. Raises TemplateError."""
        names = {
            **self._specials,
            "tools": None,
            "documents": None,
            "add_generation_prompt": True,
            **variables,
        }
        template = self._apart or self._template
        if template is None:
            raise TemplateError("the model has no chat template")
        try:
            return template.render(messages, names)
        except Refused as refusal:
            raise TemplateError(str(refusal)) from refusal

    @cached_property
    def added_tokens(self) -> frozenset[str]:
        """Texts that are one token wherever they stand."""
        return frozenset(token.content for token in self._tokenizer.get_added_tokens_decoder().values())

    @cached_property
    def knows_tools(self) -> bool:
        """Does the chat template tell the model of tools?"""
        return self._template is not None and self._template.mentions("tools")

    @cached_property
    def call_form(self) -> Literal["json", "tagged"]:
        """How the model writes calls of tools: in tags (Qwen3-Coder) if its chat template says so, else as JSON."""
        return "tagged" if self._template is not None and self._template.says("<function=") else "json"

    @cached_property
    def _byte_level(self) -> bool:
        return "ByteLevel" in json.dumps(json.loads(self._tokenizer.to_str()).get("decoder"))

    def _find_eos(self, directory: Path) -> tuple[int, ...]:
        for name in ("generation_config.json", "config.json"):
            ids = _optional(directory / name).get("eos_token_id")
            if ids is not None:
                return token_ids(ids)
        found = self._tokenizer.token_to_id(self._specials.get("eos_token", ""))
        return () if found is None else (int(found),)


class TextStream:
    """Tokens in, text out, whole characters only: the pieces, with the flush, are the text decoded at once.

    Some decoders look at a token's neighbours, so a few tokens before the new one are decoded with it, and what they
    gave alone is taken off (the prefix-offset method of vLLM and text-generation-inference).
    """

    def __init__(self, text: Text, skip_special: bool = True) -> None:
        self._text, self._skip = text, skip_special
        self._ids: list[int] = []
        self._prefix = 0
        self._read = 0

    def push(self, token_id: int) -> str:
        """The text that this token completes; empty while a character is incomplete."""
        self._ids.append(token_id)
        before, now = self._decode(self._read), self._decode(None)
        if len(now) <= len(before) or now.endswith(REPLACEMENT):
            return ""
        self._prefix, self._read = self._read, len(self._ids)
        return now[len(before) :]

    def flush(self) -> str:
        """What is still pending, with U+FFFD for bytes that make no character."""
        before, now = self._decode(self._read), self._decode(None)
        self._prefix = self._read = len(self._ids)
        return now[len(before) :]

    def _decode(self, end: int | None) -> str:
        return self._text.decode(self._ids[self._prefix : end], self._skip)


@contextmanager
def _failing(kind: type[ModelError], what: str) -> Iterator[None]:
    """Whatever the tokenizers library raises, as an error of ours: bare Exceptions, and panics, which are none."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise kind(f"{what}: {error}") from error
        raise


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _template(directory: Path, settings: Mapping[str, Any]) -> str | None:
    file = directory / "chat_template.jinja"
    if file.is_file():
        return _read_template(file)
    found = settings.get("chat_template")
    if isinstance(found, list):
        named = {str(entry.get("name")): entry for entry in found if isinstance(entry, dict)}
        found = named.get("default", {}).get("template")
    if not isinstance(found, str | None):
        raise TemplateError(f"{directory / 'tokenizer_config.json'}: chat_template is not a text")
    return found


def _read_template(file: Path) -> str:
    try:
        if file.stat().st_size > MOST_TEMPLATE_BYTES:
            raise TemplateError(f"{file} is larger than {MOST_TEMPLATE_BYTES >> 20} MiB")
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise TemplateError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TemplateError(f"{file} is not UTF-8: {error.reason}") from error


def _specials(directory: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    tokens = {**_optional(directory / "special_tokens_map.json"), **settings}
    values = {name: tokens.get(name) for name in SPECIAL}
    spelled = {name: v.get("content") if isinstance(v, dict) else v for name, v in values.items()}
    return {name: value for name, value in spelled.items() if isinstance(value, str)}
