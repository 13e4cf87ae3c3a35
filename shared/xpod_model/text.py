"""Text to tokens and back: tokenizer, chat template, incremental detokenisation. It does not know torch.

The files are Hugging Face's: tokenizer.json, tokenizer_config.json, chat_template.jinja, special_tokens_map.json.
"""

import datetime
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.meta
import jinja2.sandbox
from tokenizers import Tokenizer

from xpod_model.config import read_json
from xpod_model.errors import TemplateError, TokenizerError
from xpod_model.vocabulary import token_bytes

SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
REPLACEMENT = "\ufffd"


class Text:
    """The tokenizer and chat template of a model directory."""

    def __init__(self, tokenizer: Tokenizer, template: str | None, specials: Mapping[str, str]) -> None:
        self._tokenizer, self._source, self._specials = tokenizer, template, dict(specials)
        self.eos_token_ids: tuple[int, ...] = ()

    @classmethod
    def load(cls, directory: Path) -> "Text":
        """Raises TokenizerError or ConfigError if a file is missing or damaged; a chat template may be missing."""
        directory = Path(directory)
        path = directory / "tokenizer.json"
        if not path.is_file():
            raise TokenizerError(f"{directory} has no tokenizer.json")
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception
            raise TokenizerError(f"{path} is not a tokenizer: {error}") from error
        settings = _optional(directory / "tokenizer_config.json")
        text = cls(tokenizer, _template(directory, settings), _specials(directory, settings))
        text.eos_token_ids = text._find_eos(directory)
        return text

    @property
    def vocab(self) -> int:
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    @property
    def has_template(self) -> bool:
        return self._source is not None

    def encode(self, text: str, add_special: bool = True) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=add_special).ids)

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
        try:
            return self._compiled.render(messages=list(messages), **names)
        except jinja2.TemplateError as error:
            raise TemplateError(f"chat template: {error}") from error
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise TemplateError(f"chat template: {type(error).__name__}: {error}") from error

    @cached_property
    def added_tokens(self) -> frozenset[str]:
        """Texts that are one token wherever they stand."""
        return frozenset(token.content for token in self._tokenizer.get_added_tokens_decoder().values())

    @cached_property
    def knows_tools(self) -> bool:
        """Does the chat template tell the model of tools?"""
        if self._source is None:
            return False
        try:
            parsed = _environment().parse(self._source)
        except jinja2.TemplateError:
            return False
        return "tools" in jinja2.meta.find_undeclared_variables(parsed)

    @cached_property
    def _compiled(self) -> jinja2.Template:
        if self._source is None:
            raise TemplateError("the model has no chat template")
        try:
            return _environment().from_string(self._source)
        except jinja2.TemplateError as error:
            raise TemplateError(f"chat template: {error}") from error

    @cached_property
    def _byte_level(self) -> bool:
        return "ByteLevel" in json.dumps(json.loads(self._tokenizer.to_str()).get("decoder"))

    def _find_eos(self, directory: Path) -> tuple[int, ...]:
        for name in ("generation_config.json", "config.json"):
            ids = _optional(directory / name).get("eos_token_id")
            if ids is not None:
                return tuple(ids) if isinstance(ids, list) else (int(ids),)
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


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _template(directory: Path, settings: Mapping[str, Any]) -> str | None:
    file = directory / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    found = settings.get("chat_template")
    if isinstance(found, list):
        named = {entry["name"]: entry["template"] for entry in found}
        return named.get("default")
    return found


def _specials(directory: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    tokens = {**_optional(directory / "special_tokens_map.json"), **settings}
    values = {name: tokens.get(name) for name in SPECIAL}
    spelled = {name: v["content"] if isinstance(v, dict) else v for name, v in values.items()}
    return {name: value for name, value in spelled.items() if value is not None}


def _environment() -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    """What chat templates may count on: the environment that transformers gives them."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
