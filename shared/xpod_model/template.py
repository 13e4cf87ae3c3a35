"""Chat templates: a conversation becomes a prompt. Run as a program, it does so for a parent, within limits.

A template comes with a checkpoint, from anywhere. jinja2's sandbox keeps it from attributes and from changing what it
is given, but not from working for ever or filling the memory; the system does that, so a template has a process of its
own (see `template_process`). It knows jinja2 and nothing else of xpod, so that this process is a small one.
"""

import contextlib
import datetime
import json
import resource
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox

MOST_MEMORY = 512 << 20
MOST_SECONDS = 2
"""Of a processor, for one conversation."""
MOST_CHARACTERS = 8 << 20
FAILURES = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)


class Refused(Exception):
    """What a template gave no prompt for, in one line."""


class Template:
    """One template's source, compiled when it is first asked for."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._compiled: jinja2.Template | None = None

    def render(self, messages: Iterable[Mapping[str, Any]], names: Mapping[str, Any]) -> str:
        """The prompt. Raises Refused."""
        try:
            self._compiled = self._compiled or _environment().from_string(self._source)
            return self._compiled.render({**names, "messages": list(messages)})
        except jinja2.TemplateError as error:
            raise Refused(f"chat template: {error}") from error
        except FAILURES as error:
            raise Refused(f"chat template: {type(error).__name__}: {error}") from error

    def says(self, text: str) -> bool:
        """Does it write this?"""
        return text in self._source

    def mentions(self, name: str) -> bool:
        """Does it read the variable? Nothing of it is evaluated."""
        try:
            parsed = _environment().parse(self._source)
        except (jinja2.TemplateError, RecursionError):
            return False
        return any(node.name == name for node in parsed.find_all(jinja2.nodes.Name))


def _environment() -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    """What chat templates may count on: the environment that transformers gives them."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def serve() -> None:
    """A line of JSON in, a line of JSON out, until the parent is gone. The first line is the template."""
    with contextlib.suppress(ValueError):  # not every system knows it
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    template = Template(json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_answer(template, line)) + "\n")
        sys.stdout.flush()


def _answer(template: Template, line: str) -> dict[str, str]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    until = int(usage.ru_utime + usage.ru_stime) + 1 + MOST_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (until, resource.RLIM_INFINITY))
    try:
        messages, names = json.loads(line)
        text = template.render(messages, names)
    except Refused as refusal:
        return {"refusal": str(refusal)[:1000]}
    except MemoryError:
        return {"refusal": f"chat template: it takes more than {MOST_MEMORY >> 20} MiB of memory"}
    if len(text) > MOST_CHARACTERS:
        return {"refusal": f"chat template: the prompt would have more than {MOST_CHARACTERS} characters"}
    return {"text": text}


if __name__ == "__main__":
    serve()
