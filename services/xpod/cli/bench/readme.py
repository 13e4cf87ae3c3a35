"""`xpod bench table`: the README's performance tables, made from result files.

Knows: which files are the newest, the markers, and how each kind of result becomes Markdown.
Does not know: how anything was measured.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from xpod.cli.bench.compare.summary import POD
from xpod.cli.bench.compare.table import disturbed, gigabytes, number
from xpod.cli.bench.hop.table import HEADER, cells, remarks
from xpod.cli.errors import BAD_USAGE, DONE, REFUSED, CliError

Json = dict[str, Any]
BEGIN, END = "<!-- performance:begin -->", "<!-- performance:end -->"


def table(
    results: Annotated[
        Path, Option("--results", envvar="XPOD_RESULTS", metavar="DIR", help="Where result files are.")
    ] = Path("bench/results"),
    readme: Annotated[
        Path, Option("--readme", envvar="XPOD_README", metavar="FILE", help="The file to rewrite.")
    ] = Path("README.md"),
    check: Annotated[
        bool, Option("--check", envvar="XPOD_CHECK", help="Write nothing, fail where it would change.")
    ] = False,
) -> int:
    """Rewrite the performance tables in README.md from the newest results."""
    text = _text_of(readme)
    wanted = rewritten(text, tables(results))
    if text == wanted:
        return DONE
    if check:
        raise CliError(f"{readme} is not what {results} gives (xpod bench table rewrites it)", REFUSED)
    readme.write_text(wanted)
    return DONE


def rewritten(text: str, tables: str) -> str:
    """The text with other tables between its markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise CliError(f"--readme: it has no {BEGIN} before a {END}", BAD_USAGE)
    return f"{before}{BEGIN}\n{tables}{END}{after}"


def tables(results: Path) -> str:
    """Markdown of the newest result of each kind; empty where there is none."""
    parts = [make(found) for kind, make in SECTIONS.items() if (found := newest(results, kind)) is not None]
    return "\n".join("\n".join(lines) + "\n" for lines in parts)


def newest(results: Path, kind: str) -> Json | None:
    """File names begin with their date."""
    files = sorted(results.glob(f"*-{kind}-*.json"), key=lambda file: file.name)
    if not files:
        return None
    try:
        found: Json = json.loads(files[-1].read_text())
    except (OSError, ValueError) as error:
        raise CliError(f"--results: {files[-1]} is not a result: {error}") from error
    return found


def comparison(report: Json) -> list[str]:
    """Of `xpod bench compare`."""
    names = list(report["contenders"])
    others = [name for name in names if name != POD]
    header = ["tokens per second", *names, *(f"{POD} / {name}" for name in others)]
    rows = [
        [
            _in_words(figure, report["parameters"]["cases"]),
            *(number(found["contenders"].get(name), 0) for name in names),
            *(number(found["ratios"].get(name), 2) for name in others),
        ]
        for figure, found in report["figures"].items()
    ]
    return [*_markdown(header, rows), "", *_remarks(report)]


def hop(report: Json) -> list[str]:
    """Of `xpod bench hop`."""
    return [
        *_markdown(list(HEADER), cells(report)),
        "",
        *_origin(report, "Milliseconds"),
        *_sentences(remarks(report)),
    ]


def _in_words(figure: str, cases: Json) -> str:
    name, _, kind = figure.partition(" ")
    sequences, prompt, _ = cases[name]
    many = f"{sequences} at once" if sequences > 1 else "one"
    what = {
        "": f"prompts of {prompt}, {many}",
        "steady": f"answers, {many}: while all decode",
        "whole": f"answers, {many}: prompts included",
    }
    return what[kind]


def _markdown(header: list[str], rows: list[list[str]]) -> list[str]:
    rule = "|---|" + "--:|" * (len(header) - 1)
    return [_line(header), rule, *map(_line, rows)]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _remarks(report: Json) -> list[str]:
    rounds = report["parameters"]["rounds"]
    sizes = [
        f"{name} {gigabytes(each['pss_bytes']['median'])}" + _budget(report["contenders"][name])
        for name, each in report["memory"].items()
    ]
    return [
        *_origin(report, f"Medians of {rounds} rounds (and their range)"),
        *([f"Memory (PSS): {', '.join(sizes)}."] if sizes else []),
        *_sentences(disturbed(report)),
    ]


def _origin(report: Json, what: str) -> list[str]:
    machine, commit = report["machine"], report["versions"]["commit"]
    return [
        f"{what}, on {machine['cores']} cores of {machine['cpu']}, {report['started'][:10]}, commit {commit}, "
        f"model `{report['parameters']['model']['name']}`."
    ]


def _sentences(lines: Iterable[str]) -> list[str]:
    return [f"{line[0].upper()}{line[1:]}." for line in lines]


def _budget(facts: Json) -> str:
    return f" (budget {gigabytes(facts['budget_bytes'])})" if "budget_bytes" in facts else ""


def _text_of(readme: Path) -> str:
    try:
        return readme.read_text()
    except OSError as error:
        raise CliError(f"--readme: {readme} cannot be read: {error.strerror}", BAD_USAGE) from error


SECTIONS: dict[str, Callable[[Json], list[str]]] = {"compare": comparison, "hop": hop}
"""By the kind in a result file's name, in the order of the tables; each makes the lines of one."""
