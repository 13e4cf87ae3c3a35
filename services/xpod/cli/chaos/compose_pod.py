"""A pod of containers as a target: those of a running `docker compose up`.

Knows: the `docker` command. Does not know: routers' views, streams, or when to hit whom.

KILL is `docker kill`. Docker leaves a container that was killed so as it is, whatever its restart policy, so it is
started again as soon as it has ended. STOP is `docker pause`: the kernel still acknowledges for the processes, which
do nothing, as with SIGSTOP; `docker kill --signal STOP` would besides end the container's restart policy.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

from xpod.cli.chaos.target import POD, Fault, Life, Signal, Target, Usage
from xpod.cli.compose import KINDS
from xpod.cli.errors import BAD_USAGE, CliError

COMMAND_SECONDS = 60.0
STATE = "{{.Id}} {{.State.Status}} {{.State.StartedAt}}"
USAGE = "cat /proc/1/smaps_rollup /proc/1/status; echo files: $(ls /proc/1/fd | wc -l)"
_SERVICE = re.compile(rf"({'|'.join(KINDS)})-\d+")
AT_ONCE = 4


class ComposePod(Target):
    """The containers of a compose file, or of the one in a directory. Raises CliError where none runs."""

    def __init__(self, where: Path) -> None:
        option = "--file" if where.is_file() else "--project-directory"
        found = containers(docker("compose", option, str(where), "ps", "--all", "--format", "json"))
        self._ids = {
            each["Service"]: str(each["ID"]) for each in found if _SERVICE.fullmatch(each["Service"])
        }
        routers = {each["Service"]: endpoint(each) for each in found if each["Service"].startswith("router-")}
        super().__init__({name: url for name, url in sorted(routers.items()) if url})
        if not self.routers:
            raise CliError(f"no router of {where} runs with a published port (docker compose up starts them)")
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._starting: list[Future[str]] = []

    def lives(self) -> list[Life]:
        self._raise_if_not_started()
        lines = [
            line.split() for line in docker("inspect", "--format", STATE, *self._ids.values()).splitlines()
        ]
        return [
            Life(member, _kind(member), state in {"running", "paused"}, started, started=_unix(started))
            for member, (_, state, started) in zip(self._ids, lines, strict=True)
        ]

    def hit(self, member: str, signal: Signal) -> Fault:
        everyone = [each for each in self._ids if _kind(each) != "nats"]
        ids = tuple(self._ids[each] for each in (everyone if member == POD else [member]))
        if signal == "STOP":
            docker("pause", *ids)
        else:
            docker("kill", *ids)
            self._starting.append(self._pool.submit(_start, ids))
        return Fault(member, signal, ids)

    def wake(self, fault: Fault) -> None:
        docker("unpause", *fault.processes)

    def usage(self) -> list[Usage]:
        lives = [life for life in self.lives() if life.runs]
        told = self._pool.map(self._usage, lives)
        return [usage for usage in told if usage is not None]

    def _usage(self, life: Life) -> Usage | None:
        """None where the container stands still or ends meanwhile."""
        try:
            return parse_usage(life, docker("exec", self._ids[life.member], "sh", "-c", USAGE))
        except CliError:
            return None

    def _raise_if_not_started(self) -> None:
        for start in [start for start in self._starting if start.done()]:
            self._starting.remove(start)
            start.result()


def docker(*arguments: str) -> str:
    """What the command prints. Raises CliError with what it complains of."""
    if shutil.which("docker") is None:
        raise CliError("there is no docker command", BAD_USAGE)
    try:
        done = subprocess.run(
            ["docker", *arguments], capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise CliError(f"docker {arguments[0]} took longer than {COMMAND_SECONDS:g} s") from None
    if done.returncode:
        raise CliError(f"docker {arguments[0]}: {done.stderr.strip() or f'exit status {done.returncode}'}")
    return done.stdout


def containers(text: str) -> list[dict[str, Any]]:
    """What `docker compose ps --format json` prints: one object a line, or one array (before 2.21)."""
    if text.lstrip().startswith("["):
        return list(json.loads(text))
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def endpoint(container: dict[str, Any]) -> str:
    """The URL of the first TCP port that is published to this machine; empty where none is."""
    for each in container.get("Publishers") or []:
        if each.get("PublishedPort") and each.get("Protocol", "tcp") == "tcp":
            host = each.get("URL") or "127.0.0.1"
            return f"http://{'127.0.0.1' if host in {'0.0.0.0', '::'} else host}:{each['PublishedPort']}"
    return ""


def parse_usage(life: Life, text: str) -> Usage:
    """From /proc's lines of `name: value`; the proportional set where there is one, else the resident set."""
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    kilobytes = fields.get("Pss") or fields["VmRSS"]
    return Usage(life, int(kilobytes.split()[0]) * 1024, int(fields["files"]))


def _start(ids: Sequence[str]) -> str:
    docker("wait", *ids)
    return docker("start", *ids)


def _kind(member: str) -> str:
    return member.rpartition("-")[0]


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
