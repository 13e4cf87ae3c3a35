"""`xpod chat`: a conversation.

Knows: its options, and the turns' order: a question, its answer.
Does not know: how the answer comes (see `client`), or where the pod comes from (see `borrowing`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

from typer import Option

from xpod.cli.answer import Answer
from xpod.cli.borrowing import Asking, borrowed
from xpod.cli.chat.conversation import Conversation
from xpod.cli.client import PodClient
from xpod.cli.errors import CliError, Terminated
from xpod.cli.options import (
    DEFAULT_DATA,
    DEFAULT_MODEL,
    DataOption,
    DeviceOption,
    DtypeOption,
    MaxTokensOption,
    ModelOption,
    SeedOption,
    TemperatureOption,
    TopPOption,
    UrlOption,
)
from xpod.cli.run import sampling_body

Read = Callable[[], str]
"""The next thing that the user says; raises EOFError at the end."""
Ask = Callable[[Conversation], str]
"""Shows the model's answer to what was said so far, and returns it."""
PATH = "/v1/chat/completions"


def chat(  # noqa: PLR0917
    system: Annotated[
        str, Option("--system", envvar="XPOD_SYSTEM", help="What the model is told beforehand.")
    ] = "",
    max_tokens: MaxTokensOption = 512,
    temperature: TemperatureOption = None,
    top_p: TopPOption = None,
    seed: SeedOption = None,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    model: ModelOption = DEFAULT_MODEL,
    dtype: DtypeOption = "auto",
    device: DeviceOption = "cpu",
) -> int:
    """Chat with the running pod (or one started for this). Ctrl-C ends an answer, Ctrl-D the conversation.

    On a terminal answers are shown as Markdown, and /help names the commands.
    """
    body = sampling_body(max_tokens, temperature, top_p, seed, None)
    conversation = Conversation(body, system, fixed_seed=seed is not None)
    with borrowed(Asking(data, url, model, dtype, device)) as endpoints, PodClient(endpoints) as client:
        converse(_reader(), lambda said: _answer(client, said), conversation)
    return 0


def converse(read: Read, ask: Ask, conversation: Conversation) -> None:
    """Turn after turn, until there is no more input. A turn that is refused is taken back."""
    while True:
        try:
            if not _listened(read, conversation):
                continue
            conversation.answered(ask(conversation))
        except EOFError:
            return
        except CliError as error:
            if not sys.stdin.isatty():
                raise
            if conversation.turns and conversation.turns[-1]["role"] == "user":
                conversation.take_back()
            print(f"xpod: {error.message}", file=sys.stderr)


def _listened(read: Read, conversation: Conversation) -> bool:
    """Whether there is something to answer now."""
    try:
        said = read()
    except Terminated:
        raise
    except KeyboardInterrupt:
        return False
    if said.startswith("/") and sys.stdin.isatty():
        told, ask = conversation.command(said)
        if told:
            print(told)
        return ask
    if said.strip():
        conversation.asked(said)
    return bool(said.strip())


def _answer(client: PodClient, conversation: Conversation) -> str:
    """Shows the answer as it comes. Ctrl-C ends it; what was said until then counts."""
    from xpod.cli.chat.screen import MarkdownScreen, PlainScreen, Screen

    said: list[str] = []
    screen: Screen
    if sys.stdout.isatty():
        from rich.console import Console

        screen = MarkdownScreen(Console(highlight=False))
    else:
        screen = PlainScreen()

    def hear(text: str) -> None:
        said.append(text)
        screen.hear(text)

    answer: Answer | None = None
    try:
        answer = client.stream(PATH, conversation.request(), hear, screen.moved)
    except Terminated:
        raise
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
    finally:
        screen.close()
    screen.done(answer)
    return "".join(said)


def _reader() -> Read:
    """A line editor on a terminal; plain lines from anything else."""
    if not sys.stdin.isatty():
        return _next_line
    from xpod.cli.chat.editor import editor

    return editor()


def _next_line() -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\n")
