"""Takes samples of what the processes of a target hold, beside everything else.

Knows: when. Does not know: what becomes of the samples.
"""

from __future__ import annotations

import threading
import time

from xpod.cli.chaos.growth import Sample
from xpod.cli.chaos.target import Target

EVERY_SECONDS = 10.0


class Meter:
    """A first sample at once, one every 10 s from `start` on, a last one in `stop`."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._began = time.monotonic()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.samples: list[Sample] = []
        self._take()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> list[Sample]:
        """All samples."""
        self._stopping.set()
        self._thread.join()
        self._take()
        return self.samples

    def _run(self) -> None:
        while not self._stopping.wait(EVERY_SECONDS):
            self._take()

    def _take(self) -> None:
        self.samples.append(Sample(time.monotonic() - self._began, self._target.usage()))
