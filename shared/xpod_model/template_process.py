"""A chat template in a process of its own, which may take so much time and memory and no more.

Knows: how such a process is asked, ended and started again. Does not know: templates (see `template`).
"""

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from xpod_model import template
from xpod_model.template import Refused

SECONDS = 10.0
"""Until an answer; the processor's time for it is counted by the process itself."""


class TemplateProcess:
    """Renders as a Template does, one conversation at a time. Any thread. It starts with the first one."""

    def __init__(self, source: str, seconds: float = SECONDS) -> None:
        self._source, self._seconds = source, seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def render(self, messages: Iterable[Mapping[str, Any]], names: Mapping[str, Any]) -> str:
        """The prompt. Raises Refused, also where the template takes too much."""
        question = json.dumps([list(messages), dict(names)]).encode() + b"\n"
        with self._lock:
            self._process = self._process or self._started()
            try:
                answer = json.loads(_ask(self._process, question, time.monotonic() + self._seconds))
            except (OSError, ValueError):
                self._end()
                raise Refused(
                    f"chat template: it takes more than {template.MOST_SECONDS} s of a processor, or too much memory"
                ) from None
        if "refusal" in answer:
            raise Refused(answer["refusal"])
        return str(answer["text"])

    def close(self) -> None:
        """End the process, if there is one."""
        with self._lock:
            self._end()

    def _started(self) -> subprocess.Popen[bytes]:
        """It has no settings of ours, which may be secrets."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("XPOD_")}
        process = subprocess.Popen(
            [sys.executable, "-P", template.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(self._source).encode() + b"\n")
        return process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(OSError):  # what it never read
                process.stdin.close()
            process.stdout.close()
            process.wait()


def _ask(process: subprocess.Popen[bytes], question: bytes, deadline: float) -> bytes:
    """A line. Raises OSError: it is not there in time, or the process has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(question)
    process.stdin.flush()
    answer = bytearray()
    while not answer.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError
        got = os.read(process.stdout.fileno(), 1 << 20)
        if not got:
            raise ConnectionError
        answer += got
    return bytes(answer)
