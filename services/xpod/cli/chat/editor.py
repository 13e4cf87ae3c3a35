"""The line in which the next question is typed.

Knows: prompt_toolkit, where what was typed before is kept. Does not know: what it is for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from xpod.cli.chat.conversation import HELP

COMMANDS = [line.split()[0] for line in HELP.splitlines() if line.startswith("/")]


def history_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Where what was typed is kept (XDG Base Directory: state), for its user alone; made if need be."""
    state = environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    path = Path(state) / "xpod" / "chat_history"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    return path


def editor() -> Callable[[], str]:
    """Reads one question, of several lines where the user wants; raises EOFError at the end."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.history import FileHistory, History, InMemoryHistory
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    keys = KeyBindings()

    @keys.add("enter")
    def _send(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    history: History
    try:
        history = FileHistory(str(history_file()))
    except OSError:  # a home that cannot be written to costs the memory, not the conversation
        history = InMemoryHistory()
    session: PromptSession[str] = PromptSession(
        history=history,
        key_bindings=keys,
        multiline=True,
        prompt_continuation="  ",
        completer=WordCompleter(COMMANDS, sentence=True),
        complete_while_typing=False,
    )
    return lambda: session.prompt("> ")
