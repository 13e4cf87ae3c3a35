"""Tokens become text piece by piece as they do at once, and conversations become prompts."""

import json
import random
import shutil
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from model.oracle_models import BOS, EOS
from xpod_model.errors import TemplateError, TokenizerError
from xpod_model.text import Text

SENTENCES = [
    "plain text",
    "Übergröße — naïve café",
    "日本語のテキスト",
    "🎉🧑‍🚀 emoji 👍🏽",
    "a\n\tb  c",
    "",
    " lead",
    "\ufffd real",
]
MESSAGES = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes?"}]


@pytest.fixture
def directory(tmp_path: Path, oracle_dirs: dict[str, Path]) -> Path:
    names = ("tokenizer.json", "tokenizer_config.json", "config.json")
    for name in names:
        shutil.copy(oracle_dirs["plain"] / name, tmp_path)
    return tmp_path


@pytest.fixture
def text(directory: Path) -> Text:
    return Text.load(directory)


def spell(directory: Path, template: str) -> Text:
    (directory / "chat_template.jinja").write_text(template)
    return Text.load(directory)


@pytest.mark.parametrize("sentence", SENTENCES)
def test_round_trip(text: Text, sentence: str) -> None:
    ids = text.encode(sentence)
    assert text.decode(ids) == sentence
    assert b"".join(map(text.token_bytes, ids)) == sentence.encode()


@pytest.mark.parametrize("sentence", SENTENCES)
def test_a_stream_adds_up_to_the_whole(text: Text, sentence: str) -> None:
    stream = text.stream()
    pieces = [stream.push(token) for token in text.encode(sentence)]
    assert "".join(pieces) + stream.flush() == sentence
    assert "\ufffd" not in "".join(pieces).replace(sentence, "")


def test_half_a_character_waits(text: Text) -> None:
    stream = text.stream()
    assert [stream.push(token) for token in "€!".encode()] == ["", "", "€", "!"]
    assert stream.flush() == ""


def test_a_flush_shows_what_never_became_a_character(text: Text) -> None:
    stream = text.stream()
    assert [stream.push(token) for token in b"a\xe2\x82"] == ["a", "", ""]
    assert stream.flush() == "\ufffd"
    assert stream.flush() == ""


def test_random_bytes_add_up(text: Text) -> None:
    draw = random.Random(1)
    for _ in range(50):
        ids = [draw.randrange(256) for _ in range(30)]
        stream = text.stream()
        assert "".join([*map(stream.push, ids), stream.flush()]) == text.decode(ids)


def test_special_tokens_are_skipped(text: Text) -> None:
    ids = [BOS, *b"hi", EOS]
    assert text.decode(ids) == "hi"
    assert text.decode(ids, skip_special=False) == "<|bos|>hi<|eos|>"
    stream = text.stream()
    assert "".join([*map(stream.push, ids), stream.flush()]) == "hi"
    assert (text.token(EOS), text.token(9999)) == ("<|eos|>", "")
    assert text.token_bytes(EOS) == b"<|eos|>"


def test_a_spacing_decoder(tmp_path: Path) -> None:
    vocabulary = {"▁Hello": 0, "▁world": 1, "!": 2, **{f"<0x{byte:02X}>": byte + 10 for byte in range(256)}}
    tokenizer = Tokenizer(models.BPE({"<unk>": 3, **vocabulary}, [], byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0),
    ])  # fmt: skip
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    text = Text.load(tmp_path)
    ids = [0, 1, *(byte + 10 for byte in "é".encode()), 2, 1]
    stream = text.stream()
    assert "".join([*map(stream.push, ids), stream.flush()]) == text.decode(ids) == "Hello worldé! world"
    assert [text.token_bytes(i) for i in (1, ids[2])] == [b" world", b"\xc3"]


def test_chat_template(text: Text) -> None:
    assert text.apply_chat_template(MESSAGES) == "<|user|>hi\n<|assistant|>yes?\n<|assistant|>"
    assert not text.apply_chat_template(MESSAGES, add_generation_prompt=False).endswith("<|assistant|>")


@pytest.mark.parametrize(
    ("template", "form"),
    [("{{ tools }}", "json"), ("{% if tools %}\\n<function=name>\\n<parameter=key>{% endif %}", "tagged")],
)
def test_the_template_says_how_calls_are_written(directory: Path, template: str, form: str) -> None:
    text = spell(directory, template)
    assert text.knows_tools
    assert text.call_form == form


def test_template_environment(directory: Path) -> None:
    text = spell(
        directory,
        "{{ bos_token }}{{ tools | tojson }}{{ strftime_now('%Y')|length }}{% if x %}\n  y{% endif %}",
    )
    assert text.apply_chat_template([], tools=[{"name": "é<"}], x=True) == '<|bos|>[{"name": "é<"}]4  y'


def test_the_same_prompt_as_transformers(directory: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    template = (
        "{%- for m in messages %}\n    {%- if m.role == 'user' %}[{{ m.content | trim }}]{%- else %}\n"
        "    {{ m | tojson }}\n    {% endif %}\n{%- endfor %}\n{{ eos_token }}"
    )
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(directory / "tokenizer.json"), eos_token="<|eos|>")  # type: ignore[no-untyped-call]
    expected = theirs.apply_chat_template(MESSAGES, chat_template=template, tokenize=False)
    assert spell(directory, template).apply_chat_template(MESSAGES) == expected


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{% for %}", "chat template"),
        ("{{ messages[9].role.upper() }}", "chat template"),
        ("{{ 1 + 'a' }}", "TypeError"),
        ("{{ messages.append(1) }}", "chat template"),
        ("{{ ''.__class__.__mro__ }}", "chat template"),
    ],
)
def test_a_template_that_fails(directory: Path, template: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        spell(directory, template).apply_chat_template(MESSAGES)


def test_no_template(directory: Path) -> None:
    (directory / "tokenizer_config.json").unlink()
    text = Text.load(directory)
    assert not text.has_template
    with pytest.raises(TemplateError, match="the model has no chat template"):
        text.apply_chat_template(MESSAGES)


def test_named_templates(directory: Path) -> None:
    named = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]
    (directory / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert Text.load(directory).apply_chat_template([]) == "plain"


def test_where_the_end_is_named(directory: Path) -> None:
    assert Text.load(directory).eos_token_ids == (EOS,)  # from tokenizer_config.json
    (directory / "config.json").write_text('{"eos_token_id": 5}')
    assert Text.load(directory).eos_token_ids == (5,)
    (directory / "generation_config.json").write_text('{"eos_token_id": [6, 7]}')
    assert Text.load(directory).eos_token_ids == (6, 7)


def test_tokenizer_errors(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"has no tokenizer\.json"):
        Text.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(TokenizerError, match="is not a tokenizer"):
        Text.load(tmp_path)


def test_special_tokens_in_a_prompt_are_one_token(text: Text) -> None:
    assert text.encode("<|bos|>a") == [BOS, ord("a")]
    assert AddedToken("x").content == "x"
