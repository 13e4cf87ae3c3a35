"""`xpod chat`: a conversation.

Knows: the turns so far, and how a person types the next one.
Does not know: how the answer comes (see `client`), or where the pod comes from (see `borrowing`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

from typer import Option

from xpod.cli.borrowing import Asking, borrowed
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
from xpod.cli.run import sampling_body, show

Turn = dict[str, str]
Read = Callable[[], str]
"""The next thing that the user says; raises EOFError at the end."""


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
    """Chat with the running pod (or one started for this). Ctrl-C ends an answer, Ctrl-D the conversation."""
    turns: list[Turn] = [{"role": "system", "content": system}] if system else []
    with borrowed(Asking(data, url, model, dtype, device)) as endpoints, PodClient(endpoints) as client:
        body = sampling_body(max_tokens, temperature, top_p, seed, None)
        converse(_reader(), lambda said: _answer(client, body, said), turns)
    return 0


def converse(read: Read, answer: Callable[[list[Turn]], str], turns: list[Turn]) -> None:
    """Turn after turn, until there is no more input. A turn that is refused is taken back."""
    while True:
        try:
            said = read()
        except EOFError:
            return
        except Terminated:
            raise
        except KeyboardInterrupt:
            continue
        if not said.strip():
            continue
        turns.append({"role": "user", "content": said})
        try:
            turns.append({"role": "assistant", "content": answer(turns)})
        except CliError as error:
            if not sys.stdin.isatty():
                raise
            turns.pop()
            print(f"xpod: {error.message}", file=sys.stderr)


def _answer(client: PodClient, body: dict[str, object], turns: list[Turn]) -> str:
    """Shows the answer as it comes. Ctrl-C ends it; what was said until then counts."""
    said: list[str] = []

    def hear(text: str) -> None:
        said.append(text)
        show(text)

    try:
        client.stream("/v1/chat/completions", {**body, "messages": turns}, hear)
    except Terminated:
        raise
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
    show("\n")
    return "".join(said)


def _reader() -> Read:
    """A line editor on a terminal; plain lines from anything else."""
    if not sys.stdin.isatty():
        return _next_line
    from prompt_toolkit import PromptSession

    session: PromptSession[str] = PromptSession()
    return lambda: session.prompt("> ")


def _next_line() -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\n")
