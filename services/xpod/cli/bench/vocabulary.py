"""The benchmark model's tokenizer: one token a byte, and words that nobody spells, up to the vocabulary's size.

Knows: the files that a Hugging Face checkpoint keeps a tokenizer and a chat template in.
Does not know: the model. Every token has a text of its own, so that a client sees each one arrive.
"""

from __future__ import annotations

from typing import Any

from xpod.cli.bench.recipe import EOS, SMALLEST_VOCAB, SPECIAL, Recipe
from xpod_model.vocabulary import byte_alphabet

CHAT_TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def tokenizer(size: int) -> dict[str, Any]:
    """tokenizer.json of exactly `size` tokens; with no merges, a text is its bytes."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(index, token) for index, token in enumerate(SPECIAL)],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: index for index, token in enumerate(_tokens(size))},
            "merges": [],
        },
    }


def tokenizer_config(recipe: Recipe) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": recipe.max_positions,
        "bos_token": None,
        "eos_token": SPECIAL[EOS[0]],
        "pad_token": SPECIAL[0],
        "unk_token": None,
        "chat_template": CHAT_TEMPLATE,
    }


def generation_config() -> dict[str, Any]:
    return {"eos_token_id": EOS, "pad_token_id": 0}


def _tokens(size: int) -> list[str]:
    """Special tokens, bytes in their order, then words: in this alphabet, U+0120 is a space."""
    by_byte = sorted(byte_alphabet(), key=byte_alphabet().__getitem__)
    return [*SPECIAL, *by_byte, *(f"\u0120w{index}" for index in range(SMALLEST_VOCAB, size))]


def _added(index: int, token: str) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": index, "content": token, "special": True, **flags}
