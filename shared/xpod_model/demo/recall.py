"""Synthetic in-context recall: lines that bind a key to a value, filler, and lines that ask for the value.

It knows formats and how documents of them are made from a seed, for training and for evaluation by gap.
It knows nothing of models; of tokens it knows only how to count them, through a function it is given.
A prompt ends, and its answer begins, where the tokenizer splits anyway, so the two may be encoded apart.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

__all__ = ["FORMATS", "GAPS", "Case", "Filler", "Format", "cases", "document", "echo", "filler_of"]

Filler = Callable[[Random], list[str]]  # some consecutive lines of text, each with its newline
GAPS = (16, 32, 64, 128, 256, 512, 1024, 1800)
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = (  # noqa: SIM905
    "river stone apple cloud table green horse paper light music ocean bread chair dream eagle flame grass house "
    "ivory jewel knife lemon mouse night olive piano queen robot sugar tiger uncle violin water yellow zebra anchor "
    "bridge candle desert engine forest garden hammer island jacket kettle ladder mirror needle orange pencil rabbit "
    "saddle temple window winter summer silver copper golden square circle number letter button carpet dragon falcon"
).split()


@dataclass(frozen=True, slots=True)
class Format:
    """How a binding is written, how it is asked for, and what follows the answer. `{k}` key, `{v}` value."""

    name: str
    define: str
    ask: str
    after: str
    key: Callable[[Random], str]
    value: Callable[[Random], str]


@dataclass(frozen=True, slots=True)
class Case:
    """One question of the evaluation: the tokens from the binding's end to the answer are `gap`."""

    format: str
    bucket: int
    filler: str
    gap: int
    prompt: str
    answer: str


def letters(rng: Random) -> str:
    return "".join(rng.choice(LETTERS) for _ in range(rng.choice([2, 2, 3])))


def word(rng: Random) -> str:
    return rng.choice(WORDS)


def number(rng: Random) -> str:
    return str(rng.randrange(10, 1000))


def numbered(letter: str) -> Callable[[Random], str]:
    return lambda rng: f"{letter}{rng.randrange(100)}"


def name(rng: Random) -> str:
    return rng.choice([f"{word(rng)}_{word(rng)}", word(rng), letters(rng)])


REMEMBER = "<|im_start|>user\nRemember that {k} is {v}.<|im_end|>\n<|im_start|>assistant\nNoted.<|im_end|>\n"
RECALL = "<|im_start|>user\nWhat is {k}?<|im_end|>\n<|im_start|>assistant\n{k} is"
FORMATS = (
    Format("key", "key {k} = {v}\n", "{k} ->", "\n", numbered("k"), numbered("v")),
    Format("dict", 'd["{k}"] = {v}\n', 'd["{k}"] ->', "\n", letters, number),
    Format("comment", "# note: {k} is {v}\n", "# what is {k}?", "\n", name, number),
    Format("assign", "{k} = {v}\n", "print({k})  #", "\n", name, number),
    Format(
        "prose", "The code of the {k} is {v}.\n", "Q: what is the code of the {k}? A:", ".\n", word, number
    ),
    Format("pair", "({k}, {v})\n", "{k}:", "\n", word, word),
    Format("chat", REMEMBER, RECALL, ".<|im_end|>\n", name, number),
)


def bindings(rng: Random, form: Format, count: int) -> dict[str, str]:
    """At most `count` distinct keys with their values."""
    return {form.key(rng): form.value(rng) for _ in range(count)}


def filler_of(texts: list[str]) -> Filler:
    """Runs of consecutive lines from `texts`, never one that looks like a binding of a key."""
    split = [lines for lines in (text.splitlines(keepends=True) for text in texts) if len(lines) > 40]

    def some(rng: Random) -> list[str]:
        lines = rng.choice(split)
        start = rng.randrange(len(lines) - 30)
        return [line if line.endswith("\n") else line + "\n" for line in lines[start : start + 30]]

    return some


def asked(form: Format, key: str, value: str) -> str:
    return f"{form.ask.format(k=key)} {value}{form.after}"


def echo(rng: Random, filler: Filler) -> str:
    """Words without sense, repeated: the densest signal for copying what stood before."""
    words = [word for line in filler(rng) for word in line.split()] or ["pass"]
    phrase = rng.choice([" ", ", ", "\n"]).join(rng.choice(words) for _ in range(rng.randrange(3, 30)))
    return (phrase + "\n") * rng.randrange(2, 6)


def document(rng: Random, filler: Filler, lines: int) -> str:
    """A training text of about `lines` lines: bindings, filler, and every binding asked for, some of them often."""
    form = rng.choice(FORMATS)
    known = list(bindings(rng, form, rng.choice([1, 2, 2, 3, 3, 4, 4, 6, 8, 12, 16])).items())
    define = [form.define.format(k=key, v=value) for key, value in known]
    queries = [asked(form, *rng.choice(known)) for _ in range(rng.randrange(len(known), 2 * len(known) + 2))]
    spare = max(0, lines - len(define) - len(queries))
    style = rng.random()
    if style < 0.3:  # all bindings, then all questions: dense signal at short gaps
        return "".join(define + queries)
    padding = padding_lines(rng, filler, form, dict(known), spare)
    if style < 0.65:  # one long gap
        cut = rng.randrange(len(queries) + 1)
        return "".join(define + queries[:cut] + padding + queries[cut:])
    head, tail = padding[: spare // 4], padding[spare // 4 :]
    return "".join(define + head + scattered(rng, queries, tail))


def padding_lines(rng: Random, filler: Filler, form: Format, taken: dict[str, str], count: int) -> list[str]:
    """`count` lines: consecutive text, or bindings of other keys in the same format."""
    if rng.random() < 0.3:
        return [other(rng, form, taken) for _ in range(count)]
    found: list[str] = []
    while len(found) < count:
        found += filler(rng)
    return found[:count]


def scattered(rng: Random, queries: list[str], padding: list[str]) -> list[str]:
    """`queries` put between the lines of `padding`, which keep their order."""
    places = sorted(rng.randrange(len(padding) + 1) for _ in queries)
    mixed, start = [], 0
    for query, place in zip(queries, places, strict=True):
        mixed += [*padding[start:place], query]
        start = place
    return mixed + padding[start:]


def cases(seed: int, filler: Filler, count: Callable[[str], int], each: int = 10) -> list[Case]:
    """The evaluation set: `each` cases for every gap, format and kind of filler; `count` counts tokens."""
    rng = Random(seed)
    grid = [(gap, form, kind) for gap in GAPS for form in FORMATS for kind in ("text", "keys")]
    return [case(rng, form, gap, kind, filler, count) for gap, form, kind in grid for _ in range(each)]


def case(  # noqa: PLR0917
    rng: Random, form: Format, bucket: int, kind: str, filler: Filler, count: Callable[[str], int]
) -> Case:
    """Four bindings, the asked one last but for what fits in the gap; filler up to the gap; the question."""
    known = list(bindings(rng, form, 4).items())
    key, value = known[-1]
    defined = "".join(form.define.format(k=k, v=v) for k, v in known)
    ask = form.ask.format(k=key)
    gap, padding = count(ask), ""
    while True:
        block = filler(rng) if kind == "text" else [other(rng, form, dict(known)) for _ in range(30)]
        for line in block:
            if gap + count(line) > bucket:
                return Case(form.name, bucket, kind, gap, defined + padding + ask, f" {value}")
            gap, padding = gap + count(line), padding + line


def other(rng: Random, form: Format, taken: dict[str, str]) -> str:
    """A line of the same format that binds a key not in `taken`."""
    while (key := form.key(rng)) in taken:
        pass
    return form.define.format(k=key, v=form.value(rng))
