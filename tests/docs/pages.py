"""Commands as the documentation shows them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
_ENDS = {"&&", "||", "|", ";", "&", ">", ">>", "<", "\n"}


def script(page: Path) -> str:
    """All shell blocks of a page, in order."""
    return "\n".join(_BLOCK.findall(page.read_text()))


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command in a script, without assignments before it and redirections behind it."""
    for line in text.replace("\\\n", " ").splitlines():
        inner = re.findall(r"\$\(([^)]*)\)", line)
        for part in [*inner, re.sub(r"\$\([^)]*\)", "SUBSTITUTED", line)]:
            words = shlex.shlex(part, posix=True, punctuation_chars="&|;<>")
            words.whitespace_split = True
            command: list[str] = []
            for word in [*words, "\n"]:
                if word not in _ENDS:
                    command.append(word)
                    continue
                while command and re.match(r"[A-Za-z_]+=", command[0]):
                    command.pop(0)
                if command:
                    yield command
                command = [] if word not in {">", ">>", "<"} else ["redirected-to"]
