"""Chat templates of checkpoints that nobody should trust: they cannot get out, work for ever or fill the memory."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from router.api_fakes import CHAT, HI, FakeEngine
from xpod.router.api import ApiSettings, make_app
from xpod_model.demo import demo_path
from xpod_model.errors import TemplateError, TextError
from xpod_model.template import MOST_MEMORY
from xpod_model.text import Text

TURNS = [{"role": "user", "content": "hi"}]
ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__.__base__ }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ self._TemplateReference__context }}",
    "{{ raise_exception.__globals__['resource'] }}",
    "{{ strftime_now.__code__ }}",
    "{{ (messages | map(attribute='__class__') | list)[0].__mro__ }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(cycler) }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update({'role': 'x'}) }}",
]
SECRET = "XPOD_API_KEY"
ENDLESS = {
    "loops": "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3,
    "calls": "{% macro f(n) %}{{ f(n-1) }}{{ f(n-1) }}{% endmacro %}{{ f(200) }}",
    "a power, folded while it is compiled": "{{ 9 ** (9 ** 9) }}",
    "a power": "{{ (messages | length + 8) ** (9 ** 9) }}",
}
LARGE = {
    "a product, folded while it is compiled": "{{ 'a' * 10 ** 10 }}",
    "a product": "{{ messages[0].content * 10 ** 10 }}",
    "a width": "{{ '%9999999999d' % 1 }}",
    "padding": "{{ messages[0].content.ljust(10 ** 10) }}",
    "doubling": "{% set x = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set x.s = x.s ~ x.s %}{% endfor %}",
    "output": "{% for i in range(99999) %}" + "a" * 1000 + "{% endfor %}",
    "indentation": "{{ messages | tojson(indent=10 ** 10) }}",
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name in ("tokenizer.json", "config.json"):
        shutil.copy(demo_path() / name, tmp_path)
    return tmp_path


@pytest.fixture
def text(directory: Path, request: pytest.FixtureRequest) -> Iterator[Text]:
    (directory / "chat_template.jinja").write_text(request.param)
    loaded = Text.load(directory, apart=True)
    yield loaded
    loaded.close()


def refusal(text: Text) -> str:
    began = time.monotonic()
    with pytest.raises(TemplateError) as caught:
        text.apply_chat_template(TURNS)
    assert time.monotonic() - began < 12
    assert "\n" not in str(caught.value)
    return str(caught.value)


def process_of(text: Text) -> psutil.Process:
    living = (each for each in psutil.Process().children() if each.status() != psutil.STATUS_ZOMBIE)
    (child,) = (each for each in living if "template.py" in " ".join(each.cmdline()))
    return child


@pytest.mark.parametrize("text", ESCAPES, indirect=True)
def test_nothing_gets_out(text: Text) -> None:
    said = ""  # what may not be looked at is undefined, or an error
    with suppress(TemplateError):
        said = text.apply_chat_template(TURNS)
    assert said == ""


@pytest.mark.parametrize("text", ENDLESS.values(), indirect=True, ids=ENDLESS)
def test_endless_work_ends(text: Text) -> None:
    assert "chat template: " in refusal(text)


@pytest.mark.parametrize("text", LARGE.values(), indirect=True, ids=LARGE)
def test_memory_is_bounded(text: Text) -> None:
    assert "more than" in refusal(text) or "Error" in refusal(text)
    assert psutil.Process().memory_info().rss < 4 * MOST_MEMORY


@pytest.mark.parametrize("text", ["{{ messages[0].content * (n or 1) }}"], indirect=True)
def test_one_that_died_serves_again(text: Text) -> None:
    assert text.apply_chat_template(TURNS, n=2) == "hihi"
    with pytest.raises(TemplateError):
        text.apply_chat_template(TURNS, n=10**10)
    assert text.apply_chat_template(TURNS, n=1) == "hi"
    os.kill(process_of(text).pid, signal.SIGKILL)
    with pytest.raises(TemplateError):
        text.apply_chat_template(TURNS, n=1)
    assert text.apply_chat_template(TURNS, n=1) == "hi"


@pytest.mark.parametrize("text", ["x"], indirect=True)
def test_its_process_knows_no_secrets(text: Text, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET, "s3cret")
    text.apply_chat_template(TURNS)
    assert SECRET not in process_of(text).environ()


def test_it_gives_what_it_gives_at_home() -> None:
    apart, home = Text.load(demo_path(), apart=True), Text.load(demo_path())
    turns = [{"role": "user", "content": 'é🙂"\u2028\0'}, {"role": "assistant", "content": "x" * 300_000}]
    try:
        for generate in (False, True):
            said = apart.apply_chat_template(turns, add_generation_prompt=generate)
            assert said == home.apply_chat_template(turns, add_generation_prompt=generate)
    finally:
        apart.close()
        apart.close()


@pytest.mark.parametrize(
    "text", ["{{ '()' * 50000 }}" + "{% if " + "(" * 3000 + "tools" + ")" * 3000 + " %}"], indirect=True
)
def test_to_look_for_tools_evaluates_nothing(text: Text) -> None:
    assert not text.knows_tools


@pytest.mark.parametrize("text", [ENDLESS["loops"]], indirect=True)
async def test_clients_are_told(text: Text) -> None:
    transport = httpx.ASGITransport(make_app(FakeEngine(), text, ApiSettings()))
    async with httpx.AsyncClient(transport=transport, base_url="http://router") as http:
        answer = await http.post(CHAT, json=HI)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "chat_template")


def test_texts_that_the_tokenizer_gives_up(directory: Path) -> None:
    text = Text.load(directory)
    for bad in ("\ud800", " " * 16_000_000):
        with pytest.raises(TextError, match="the tokenizer cannot read this text"):
            text.encode(bad)


async def test_a_text_that_cannot_fit_is_not_tokenised(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = Text.load(directory)
    monkeypatch.setattr(text, "encode", lambda *_, **__: pytest.fail("tokenised"))
    transport = httpx.ASGITransport(make_app(FakeEngine(), text, ApiSettings()))
    async with httpx.AsyncClient(transport=transport, base_url="http://router") as http:
        answer = await http.post("/v1/completions", content=json.dumps({"prompt": "a" * 8_000_000}))
        assert answer.json()["error"]["code"] == "context_length_exceeded"
        answer = await http.post("/tokenize", content=json.dumps({"prompt": "a" * 8_000_000}))
        assert answer.json()["error"]["param"] == "prompt"
