"""What was said so far, how the next answer is asked for, and the words that are not for the model.

Knows: turns, sampling settings, commands that begin with a slash.
Does not know: the terminal, or how an answer comes.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xpod.cli.errors import CliError

Turn = dict[str, str]
SEED_BITS = 63
SETTINGS: dict[str, type[int] | type[float]] = {
    "temperature": float,
    "top_p": float,
    "max_tokens": int,
    "seed": int,
}
HELP = """\
/retry            another answer to the last question
/undo             take the last question and its answer back
/clear            begin a new conversation
/system TEXT      what the model is told beforehand; without TEXT, nothing
/set NAME VALUE   temperature, top_p, max_tokens or seed; without VALUE, the default
/save FILE        the conversation as JSON, as the API takes it
/help             this
/exit             the end, as Ctrl-D

Enter sends, Alt-Enter begins a new line, the arrows bring back what was said, Ctrl-C ends an answer."""


@dataclass(slots=True)
class Conversation:
    """`body` is the part of a request that stays; `fixed_seed` whether the user chose the seed in it."""

    body: dict[str, Any]
    system: str = ""
    fixed_seed: bool = False
    turns: list[Turn] = field(default_factory=list)

    def request(self) -> dict[str, Any]:
        """The next one. Each answer has a seed of its own, unless the user chose one."""
        if not self.fixed_seed:
            self.body["seed"] = secrets.randbits(SEED_BITS)
        told = [{"role": "system", "content": self.system}] if self.system else []
        return {**self.body, "messages": [*told, *self.turns]}

    def asked(self, text: str) -> None:
        self.turns.append({"role": "user", "content": text})

    def answered(self, text: str) -> None:
        self.turns.append({"role": "assistant", "content": text})

    def take_back(self) -> None:
        """The last question, and its answer if there is one."""
        while self.turns and self.turns.pop()["role"] != "user":
            continue

    def command(self, line: str) -> tuple[str, bool]:
        """Does what a line that begins with a slash says.

        Returns what to tell the user, and whether the model is to be asked now. Raises CliError, and EOFError for
        `/exit`.
        """
        name, _, rest = line[1:].partition(" ")
        known = self._commands().get(name)
        if known is None:
            raise CliError(f"there is no command /{name}: /help names them")
        return known(rest.strip())

    def _commands(self) -> dict[str, Callable[[str], tuple[str, bool]]]:
        return {
            "retry": self._retry,
            "undo": self._undo,
            "clear": self._clear,
            "system": self._tell,
            "set": self._set,
            "save": self._save,
            "help": lambda _: (HELP, False),
            "exit": _end,
        }

    def _retry(self, _: str) -> tuple[str, bool]:
        if not self.turns:
            raise CliError("nothing was asked yet")
        while self.turns[-1]["role"] != "user":
            self.turns.pop()
        return "", True

    def _undo(self, _: str) -> tuple[str, bool]:
        if not self.turns:
            raise CliError("nothing was asked yet")
        self.take_back()
        return f"{len(self.turns)} turns are left", False

    def _clear(self, _: str) -> tuple[str, bool]:
        self.turns.clear()
        return "a new conversation", False

    def _tell(self, text: str) -> tuple[str, bool]:
        self.system = text
        return "the model is told that beforehand" if text else "the model is told nothing beforehand", False

    def _set(self, text: str) -> tuple[str, bool]:
        name, _, value = text.partition(" ")
        kind = SETTINGS.get(name)
        if kind is None:
            raise CliError(f"/set takes {', '.join(SETTINGS)}, not {name!r}")
        if value.strip():
            try:
                self.body[name] = kind(value)
            except ValueError:
                raise CliError(f"{value!r} is not a value of {name}") from None
        else:
            self.body.pop(name, None)
        if name == "seed":
            self.fixed_seed = bool(value.strip())
        return f"{name} {self.body.get(name, 'as the server chooses')}", False

    def _save(self, text: str) -> tuple[str, bool]:
        if not text:
            raise CliError("/save FILE")
        path = Path(text).expanduser()
        try:
            path.write_text(json.dumps(self.request()["messages"], ensure_ascii=False, indent=1) + "\n")
        except OSError as error:
            raise CliError(f"{path}: {error.strerror}") from error
        return f"{len(self.turns)} turns in {path}", False


def _end(_: str) -> tuple[str, bool]:
    raise EOFError
