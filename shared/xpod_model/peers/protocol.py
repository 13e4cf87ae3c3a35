"""How an engine in a process of its own is asked, and says when its tokens were there: JSON, one object a line.

Knows: the lines, and the clock.
Does not know: engines, or which figures come of the times.

    -> (arguments)  --model DIR --threads N
    <- {"ready": {…}}                            what the engine says about itself, once it has loaded
    -> {"prompts": [[id…]…], "new_tokens": N}    all prompts have one length
    <- {"seconds": S, "steps": [s…]}             step i is when token i of every prompt was there, since the start
    <- {"error": "…"}                            instead of either; the process ends

It ends when its stdin does.
"""

import json
import os
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

FAILED = 1
Facts = dict[str, str | int]


@dataclass(frozen=True)
class Options:
    """What an engine is started with."""

    model: Path
    threads: int


class Engine(Protocol):
    """A loaded model."""

    facts: Facts

    def generate(
        self, prompts: Sequence[Sequence[int]], new_tokens: int, stepped: Callable[[], None]
    ) -> None:
        """Greedy, exactly `new_tokens` for each prompt; calls `stepped` as soon as each has one more."""


def serve(load: Callable[[Options], Engine]) -> int:
    """The whole program: returns its exit code."""
    options = _options()
    answers = _own_stdout()
    try:
        engine = load(options)
        _say(answers, {"ready": engine.facts})
        for line in sys.stdin:
            _say(answers, _timed(engine, json.loads(line)))
    except Exception as error:  # noqa: BLE001  whatever ends an engine is for whoever asked to tell
        _say(answers, {"error": f"{type(error).__name__}: {error}"})
        return FAILED
    return 0


def _timed(engine: Engine, asked: dict[str, Any]) -> dict[str, Any]:
    steps: list[float] = []
    began = time.perf_counter()
    engine.generate(asked["prompts"], asked["new_tokens"], lambda: steps.append(time.perf_counter() - began))
    return {"seconds": time.perf_counter() - began, "steps": steps}


def _options() -> Options:
    parser = ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    found = parser.parse_args()
    return Options(found.model, found.threads)


def _own_stdout() -> TextIO:
    """A stream to where stdout went; whatever a library prints goes to stderr from here on."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def _say(answers: TextIO, record: dict[str, Any]) -> None:
    answers.write(json.dumps(record) + "\n")
    answers.flush()
