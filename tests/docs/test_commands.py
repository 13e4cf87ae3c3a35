"""Every command that the documentation shows is one that there is, with options that it has."""

from __future__ import annotations

import re

import click
import pytest
import typer
import yaml

from docs.pages import PAGES, ROOT, commands, script
from xpod.cli.main import app

OTHERS = {
    "make", "docker", "nats-server", "nats", "rsync", "curl", "pip", "python", "guidellm", "llama-server",
    "wait", "cmp", "nproc", "redirected-to",
}  # fmt: skip
SHOWN = [(page.name, words) for page in PAGES for words in commands(script(page))]


def of(program: str) -> list[tuple[str, list[str]]]:
    return [(page, words[1:]) for page, words in SHOWN if words[0] == program]


def ids(shown: list[tuple[str, list[str]]]) -> list[str]:
    return [f"{page}: {' '.join(words)[:60]}" for page, words in shown]


def test_commands_are_found() -> None:
    text = "A=1 xpod run 'x y' > f && xpod down  # why\nmodel=$(xpod bench make-model)\nxpod up \\\n  -d &"
    assert [words for words in commands(text) if words[0] == "xpod"] == [
        ["xpod", "run", "x y"],
        ["xpod", "down"],
        ["xpod", "bench", "make-model"],
        ["xpod", "up", "-d"],
    ]
    assert len(of("xpod")) > 60


def test_every_program_is_known() -> None:
    """A typing error in a program's name would be a program of its own."""
    assert {words[0] for _, words in SHOWN} <= {*OTHERS, "xpod"}


@pytest.mark.parametrize(("page", "words"), of("xpod"), ids=ids(of("xpod")))
def test_options_exist_and_take_what_they_are_given(page: str, words: list[str]) -> None:
    command, name, rest = typer.main.get_command(app), "xpod", list(words)
    while isinstance(command, click.Group):
        name = rest.pop(0)
        found = command.commands.get(name)
        assert found is not None, f"{page}: there is no command {name}"
        command = found
    command.make_context(name, rest, resilient_parsing=False).close()


@pytest.mark.parametrize(("page", "words"), of("make"), ids=ids(of("make")))
def test_targets_exist(page: str, words: list[str]) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(words) <= set(targets)


@pytest.mark.parametrize(("page", "words"), of("docker"), ids=ids(of("docker")))
def test_services_and_profiles_of_compose_exist(page: str, words: list[str]) -> None:
    document = yaml.safe_load((ROOT / "compose.yaml").read_text())
    assert words.pop(0) == "compose"
    if words[0] == "--profile":
        profiles = {
            profile for service in document["services"].values() for profile in service.get("profiles", [])
        }
        assert words[1] in profiles
        words = words[2:]
    verb, *rest = words
    assert verb in {"up", "down", "kill", "start", "stop", "pause", "unpause", "logs", "ps", "exec"}
    assert {word for word in rest if not word.startswith("-")} <= set(document["services"])


def test_pages_that_are_pointed_to_exist() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} points to {target}"


def test_every_page_is_pointed_to() -> None:
    readme = (ROOT / "README.md").read_text()
    assert not [
        page.name for page in PAGES[1:] if f"docs/{page.name}" not in readme and page.name not in readme
    ]
