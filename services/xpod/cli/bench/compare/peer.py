"""An engine in a child process as a contender (see `xpod_model.peers.protocol` for the lines that it is asked in).

Knows: how to start, ask and end it, and in which ways a case can be run on it.
Does not know: torch, or what the engine is.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from xpod.cli.bench.compare.cases import Case, Prompts
from xpod.cli.bench.compare.taken import Stream, Taken
from xpod.cli.errors import CliError
from xpod.cli.logs import last_line

PEERS = ("transformers", "reference")
BATCH, IN_TURN = "one batch", "one after another"


class PeerSession:
    """A child that speaks the protocol on its stdin and stdout; `log` is where its stderr goes."""

    def __init__(self, name: str, process: subprocess.Popen[str], log: Path) -> None:
        self._name, self._process, self._log = name, process, log
        self.facts: dict[str, Any] = self._answer()["ready"]

    def take(self, case: Case, prompts: Prompts) -> Taken:
        """Decoding is one batch. Prompts are run as one batch and one after another: the faster counts."""
        batch = self._run(case, [prompts], BATCH)
        if case.decodes or len(prompts) == 1:
            return batch
        in_turn = self._run(case, [[prompt] for prompt in prompts], IN_TURN)
        fastest, other = sorted((batch, in_turn), key=lambda taken: taken.seconds)
        fastest.facts["slower"] = {other.how: round(other.seconds, 6)}
        return fastest

    def processes(self) -> list[tuple[str, int]]:
        return [(self._name, self._process.pid)]

    def _run(self, case: Case, batches: Sequence[Prompts], how: str) -> Taken:
        """Seconds are those of the engine: what it takes to ask it is left out, in its favour."""
        streams: list[Stream] = []
        began = 0.0
        for batch in batches:
            answer = self._ask({"prompts": batch, "new_tokens": case.output_tokens})
            arrivals = tuple(began + step for step in answer["steps"])
            if len(arrivals) != case.output_tokens:
                raise CliError(f"{self._name}: {len(arrivals)} tokens instead of {case.output_tokens}")
            streams += [Stream(arrivals, (1,) * len(arrivals), len(arrivals))] * len(batch)
            began += answer["seconds"]
        return Taken(case, began, tuple(streams), how=how)

    def _ask(self, record: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(record) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            raise self._died() from None
        if "error" in answer:
            raise CliError(f"{self._name}: {answer['error']}")
        return answer

    def _died(self) -> CliError:
        return CliError(f"{self._name} died: {last_line(self._log)}")


@dataclass(frozen=True, slots=True)
class Peer:
    """`module` is run with the model's directory and a number of threads; `needs` is what has to be installed."""

    name: str
    module: str
    model: Path
    threads: int
    needs: str = ""

    def check(self) -> None:
        if self.needs and find_spec(self.needs) is None:
            raise CliError(f"--peer {self.name}: {self.needs} is not installed (pip install 'xpod[bench]')")

    @contextmanager
    def running(self) -> Iterator[PeerSession]:
        command = [sys.executable, "-m", self.module]
        with TemporaryDirectory(prefix="xpod-compare-") as directory:
            log = Path(directory) / "stderr.log"
            with log.open("w") as stderr, _child(command + self._arguments(), stderr.fileno()) as process:
                yield PeerSession(self.name, process, log)

    def _arguments(self) -> list[str]:
        return ["--model", str(self.model), "--threads", str(self.threads)]


@contextmanager
def _child(command: Sequence[str], stderr: int) -> Iterator[subprocess.Popen[str]]:
    """In a session of its own, so that Ctrl-C is for us alone; it has nothing to lose, and is ended at once."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
