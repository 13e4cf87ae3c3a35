"""The real tokenizer behind the API: byte-level BPE with every character cut into bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from router.api_fakes import FakeEngine
from xpod.router.api import ApiSettings, make_app
from xpod_model.text import Text

EOS = 256
SAYING = "né 🙂 日本END and more"
TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Text:
    """A tokenizer without merges: a token is a byte, 256 ends the text."""
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    vocab = {symbol: index for index, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<eos>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": "<eos>", "chat_template": TEMPLATE})
    )
    return Text.load(folder)


async def post(engine: FakeEngine, text: Text, path: str, body: dict[str, Any]) -> httpx.Response:
    transport = httpx.ASGITransport(make_app(engine, text, ApiSettings()))
    async with httpx.AsyncClient(transport=transport, base_url="http://router") as http:
        return await http.post(path, json=body)


async def test_stream_of_whole_characters_up_to_the_stop(text: Text) -> None:
    engine = FakeEngine(*text.encode(SAYING), EOS)
    body = {"prompt": "x", "stream": True, "stop": "本END", "max_tokens": 90}
    answer = await post(engine, text, "/v1/completions", body)
    chunks = [json.loads(f.split("data: ")[1]) for f in answer.text.split("\n\n")[:-2]]
    assert [chunk["choices"][0]["text"] for chunk in chunks] == ["n", "é", " ", "🙂", " ", "日", ""]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_chat_template_and_logprobs(text: Text) -> None:
    engine = FakeEngine(*text.encode("é"), EOS)
    messages = [{"role": "user", "content": "hé"}]
    answer = await post(engine, text, "/v1/chat/completions", {"messages": messages, "logprobs": True})
    (choice,) = answer.json()["choices"]
    assert text.decode(engine.opened[0][0]) == "[user] hé\n"
    assert choice["message"]["content"] == "é"
    content = choice["logprobs"]["content"]
    assert [entry["bytes"] for entry in content] == [[0xC3], [0xA9], list(b"<eos>")]
    assert content[0]["token"] == "\\xc3"


async def test_tokenize_and_back(text: Text) -> None:
    ids = (await post(FakeEngine(), text, "/tokenize", {"prompt": SAYING})).json()["tokens"]
    assert (await post(FakeEngine(), text, "/detokenize", {"tokens": ids})).json() == {"prompt": SAYING}
