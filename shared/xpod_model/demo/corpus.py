"""The text the demo model is trained on: the running Python's standard library, and what can be read off it.

It knows files, docstrings and how a chat is written down. It knows nothing of tokens, models or recall lines.
Everything is in a fixed order; the split into train and held-out goes by a hash of the file's name.
"""

import ast
import hashlib
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

__all__ = ["END_OF_TEXT", "IM_END", "IM_START", "PAD", "Entry", "Source", "chat", "chats", "code", "entries"]
__all__ += ["held_out", "library", "prose", "sources"]

END_OF_TEXT, IM_START, IM_END, PAD = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"
HELD_OUT_SHARE = 0.05
SKIPPED_PARTS = {
    "site-packages",
    "test",
    "tests",
    "idle_test",
    "encodings",
    "__phello__",
    "__pycache__",
    "lib-dynload",
}
SKIPPED_FILES = {"html/entities.py", "pydoc_data/topics.py"}  # tables; the topics come in as prose instead
SYSTEM = "You are a helpful assistant."


@dataclass(frozen=True, slots=True)
class Source:
    """One file of the library, or one topic of the language reference."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A module, class or function: its dotted name, its docstring, and its code (empty for a module)."""

    name: str
    kind: str
    doc: str
    signature: str
    code: str


def library() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def held_out(name: str) -> bool:
    """Whether the file or topic `name` is kept from training."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32 < HELD_OUT_SHARE


def wanted(name: str) -> bool:
    parts = name.split("/")
    generated = parts[0].startswith(("config-", "_sysconfigdata")) or name in SKIPPED_FILES
    return not generated and not SKIPPED_PARTS.intersection(parts)


def sources(root: Path | None = None) -> list[Source]:
    """Every Python file of the library that is code people wrote, by name."""
    root = root or library()
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.py"))
    return [Source(name, (root / name).read_text("utf-8")) for name in names if wanted(name)]


def topics() -> list[Source]:
    """The language reference that `help()` prints, by topic."""
    from pydoc_data.topics import topics as texts

    return [Source(f"topics/{name}", text.strip() + "\n") for name, text in sorted(texts.items())]


def code(held: bool) -> list[Source]:
    return [source for source in sources() if held_out(source.name) == held]


def entries(source: Source) -> list[Entry]:
    """Whatever in `source` has a docstring, in the order it is written."""
    try:
        tree = ast.parse(source.text)
    except SyntaxError:
        return []
    module = source.name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    module = {"posixpath": "os.path"}.get(module, module)
    doc = ast.get_docstring(tree)
    found = [Entry(module, "module", doc, "", "")] if doc else []
    return found + list(members(tree, module, source.text.splitlines()))


def members(node: ast.AST, prefix: str, lines: list[str]) -> Iterator[Entry]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        name = f"{prefix}.{child.name}"
        doc = ast.get_docstring(child)
        if isinstance(child, ast.ClassDef):
            if doc:
                yield Entry(name, "class", doc, child.name, "")
            yield from members(child, name, lines)
        elif doc:
            body = [line[child.col_offset :] for line in lines[child.lineno - 1 : child.end_lineno]]
            signature = f"{child.name}({ast.unparse(child.args)})"
            yield Entry(name, "function", doc, signature, "\n".join(body))


def prose(held: bool) -> list[Source]:
    """Docstrings, one text a file, and the topics of the language reference."""
    texts = []
    for source in code(held):
        parts = [f"{entry.signature or entry.name}\n{entry.doc}\n" for entry in entries(source)]
        if parts:
            texts.append(Source(source.name, "\n".join(parts)))
    return texts + [topic for topic in topics() if held_out(topic.name) == held]


def chat(turns: list[tuple[str, str]]) -> str:
    """(role, content) pairs as the chat template of the checkpoint writes them."""
    return "".join(f"{IM_START}{role}\n{content}{IM_END}\n" for role, content in turns)


def question(entry: Entry, rng: Random) -> tuple[str, str]:
    """One thing to ask of `entry`, and its answer."""
    if entry.kind == "function" and len(entry.code) < 1500 and rng.random() < 0.5:
        verb = rng.choice(["Write the function", "Implement the function", "Write"])
        return f"{verb} {entry.signature}", f"```python\n{entry.code}\n```"
    what = {"module": "What is the module {}?", "class": "What is {}?", "function": "What does {} do?"}[
        entry.kind
    ]
    ask = rng.choice([what, what, "Explain {}.", "Describe {}."])
    return ask.format(entry.name), entry.doc.split("\n\n")[0].strip()


def chats(held: bool, rng: Random) -> list[str]:
    """Conversations of one to three questions about the library."""
    asked = [
        question(entry, rng) for source in code(held) for entry in entries(source) if len(entry.doc) > 20
    ]
    rng.shuffle(asked)
    texts = []
    while asked:
        count = rng.choice([1, 1, 1, 2, 3])
        turns = [("system", SYSTEM)] if rng.random() < 0.3 else []
        for ask, answer in asked[:count]:
            turns += [("user", ask), ("assistant", answer)]
        texts.append(chat(turns))
        del asked[:count]
    return texts
