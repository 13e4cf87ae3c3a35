"""A conversation: its turns and commands, how answers are shown, how questions are typed."""

from __future__ import annotations

import io
import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from rich.console import Console

from xpod.cli.answer import Answer
from xpod.cli.chat.command import converse
from xpod.cli.chat.conversation import HELP, Conversation
from xpod.cli.chat.editor import editor, history_file
from xpod.cli.chat.screen import MarkdownScreen, split_complete, summary
from xpod.cli.errors import CliError

QUESTION, ANSWER = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}


def conversation(*turns: dict[str, str], **body: Any) -> Conversation:
    return Conversation({"max_tokens": 5, "seed": 1, **body}, turns=list(turns))


# -- what was said --------------------------------------------------------------------------------------


def test_a_request_is_all_that_was_said() -> None:
    talk = Conversation({"seed": 1}, "be short", fixed_seed=True)
    talk.asked("q")
    assert talk.request() == {"seed": 1, "messages": [{"role": "system", "content": "be short"}, QUESTION]}


def test_each_answer_has_a_seed_of_its_own_unless_one_was_chosen() -> None:
    free, fixed = conversation(), Conversation({"seed": 7}, fixed_seed=True)
    assert len({free.request()["seed"] for _ in range(5)}) == 5
    assert {fixed.request()["seed"] for _ in range(5)} == {7}


@pytest.mark.parametrize(
    ("line", "turns", "asks"),
    [
        ("/retry", [QUESTION], True),
        ("/undo", [], False),
        ("/clear", [], False),
        ("/help", [QUESTION, ANSWER], False),
        ("/system be kind", [QUESTION, ANSWER], False),
    ],
)
def test_commands(line: str, turns: list[dict[str, str]], asks: bool) -> None:
    talk = conversation(QUESTION, ANSWER)
    assert talk.command(line)[1] is asks
    assert talk.turns == turns


@pytest.mark.parametrize(
    ("line", "body", "told"),
    [
        ("/set temperature 0.5", {"temperature": 0.5}, "temperature 0.5"),
        ("/set max_tokens 9", {"max_tokens": 9}, "max_tokens 9"),
        ("/set top_p", {"top_p": None}, "top_p as the server chooses"),
        ("/set seed 3", {"seed": 3}, "seed 3"),
    ],
)
def test_settings(line: str, body: dict[str, Any], told: str) -> None:
    talk = conversation(top_p=0.3)
    assert talk.command(line) == (told, False)
    assert {name: talk.request().get(name) for name in body} == body


def test_a_seed_that_is_taken_back_is_free_again() -> None:
    talk = conversation()
    talk.command("/set seed 3")
    talk.command("/set seed")
    assert len({talk.request()["seed"] for _ in range(5)}) == 5


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("/retry", "nothing was asked yet"),
        ("/undo", "nothing was asked yet"),
        ("/what", "there is no command /what"),
        ("/set speed 3", "/set takes temperature, top_p, max_tokens, seed"),
        ("/set seed x", "'x' is not a value of seed"),
        ("/save", "/save FILE"),
        ("/save /no/such/place", "No such file or directory"),
    ],
)
def test_what_makes_no_sense_is_named(line: str, reason: str) -> None:
    with pytest.raises(CliError, match=reason):
        conversation().command(line)


def test_a_conversation_is_saved_as_the_api_takes_it(tmp_path: Path) -> None:
    talk = Conversation({}, "be short", turns=[QUESTION, ANSWER])
    assert talk.command(f"/save {tmp_path / 'talk.json'}")[0] == f"2 turns in {tmp_path / 'talk.json'}"
    saved = json.loads((tmp_path / "talk.json").read_text())
    assert saved == [{"role": "system", "content": "be short"}, QUESTION, ANSWER]


# -- turn after turn ------------------------------------------------------------------------------------


def lines(*said: str) -> Any:
    left = iter(said)

    def read() -> str:
        line = next(left, None)
        if line is None:
            raise EOFError
        return line

    return read


def test_a_turn_that_is_refused_is_taken_back_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    talk = conversation()

    def answer(said: Conversation) -> str:
        if said.turns[-1]["content"] == "too long":
            raise CliError("the context is full")
        return "hi"

    converse(lines("too long", "hello", "/nothing", "/exit", "never"), answer, talk)
    assert [turn["content"] for turn in talk.turns] == ["hello", "hi"]


def test_retry_asks_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    answers, talk = iter(["first", "second"]), conversation()
    converse(lines("q", "/retry"), lambda said: next(answers), talk)
    assert talk.turns == [QUESTION, {"role": "assistant", "content": "second"}]


def test_a_slash_is_text_where_nobody_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    talk = conversation()
    converse(lines("/usr/bin is a place"), lambda said: "yes", talk)
    assert talk.turns[0]["content"] == "/usr/bin is a place"


# -- how it is shown ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("", ""),
        ("one", ""),
        ("one\n", ""),
        ("one\n\n", "one\n\n"),
        ("one\n\ntwo", "one\n\n"),
        ("```\na\n\nb", ""),
        ("```\na\n\nb\n```\n\nc", "```\na\n\nb\n```\n\n"),
        ("a\n\n```py\nb\n\n", "a\n\n"),
    ],
)
def test_what_nothing_can_change_any_more_is_complete(text: str, complete: str) -> None:
    assert split_complete(text) == (complete, text[len(complete) :])


def shown(*pieces: str, moves: int = 0, answer: Answer | None = None) -> str:
    out = io.StringIO()
    screen = MarkdownScreen(Console(file=out, force_terminal=True, width=60, color_system=None))
    for piece in pieces:
        screen.hear(piece)
    for _ in range(moves):
        screen.moved("http://a", "http://b")
    screen.done(answer)
    return out.getvalue()


def test_however_it_is_cut_all_of_it_is_shown_once() -> None:
    text = "# Head\n\nSome *words*.\n\n```python\nx = 1\n\ny = 2\n```\n\n- last\n"
    for size in (1, 7, len(text)):
        printed = shown(*(text[start : start + size] for start in range(0, len(text), size)))
        final = printed[printed.rindex("Head") :] if size == len(text) else printed
        for part in ("Head", "words", "x = 1", "y = 2", "last"):
            assert part in final
        assert "```" not in final.rsplit("last", 1)[1]


def test_a_router_that_died_is_told_of_once() -> None:
    printed = shown("hello", moves=3)
    assert printed.rsplit("hello", 1)[1].count("http://a is gone, http://b goes on") == 1
    assert "stopped" in printed


def test_below_is_how_it_came() -> None:
    answer = Answer(0.0, tokens=[1, 2, 3], arrivals=[10.5, 11.0, 11.5], finish_reason="length")
    answer.recoveries, answer.resumed = 1, 2
    told = "3 tokens, 2.0 tokens/s, first after 0.50 s, cut at max_tokens, 1 workers died under it"
    assert summary(answer, 10.0) == f"{told}, went on 2 times at another router"
    assert summary(Answer(0.0), 0.0) == "0 tokens"


# -- how it is typed ------------------------------------------------------------------------------------


def typed(keys: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int = 1) -> list[str]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with create_pipe_input() as source, create_app_session(input=source, output=DummyOutput()):
        source.send_text(keys)
        read = editor()
        return [read() for _ in range(count)]


def test_enter_sends_and_alt_enter_begins_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert typed("one\x1b\rtwo\r", tmp_path, monkeypatch) == ["one\ntwo"]


def test_what_was_typed_comes_back_in_the_next_conversation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert typed("first\rsecond\r", tmp_path, monkeypatch, 2) == ["first", "second"]
    assert typed("\x1b[A\x1b[A\r", tmp_path, monkeypatch) == ["first"]
    path = history_file({"XDG_STATE_HOME": str(tmp_path)})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_home_that_cannot_be_written_to_costs_the_memory_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xpod").write_text("in the way")
    assert typed("one\r", tmp_path, monkeypatch) == ["one"]


def test_every_command_has_its_help() -> None:
    documented = {line.split()[0][1:] for line in HELP.splitlines() if line.startswith("/")}
    assert documented == set(conversation()._commands())
