"""A peer that needs no model: `python -m cli.bench_peer --model DIR --threads N`.

The directory's name says what is wrong with it, if anything is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from xpod_model.peers.protocol import Facts, Options, serve


class Fake:
    """A step a token, as fast as it can."""

    def __init__(self, options: Options) -> None:
        if options.model.name == "broken":
            raise ValueError("no such weights")
        self.facts: Facts = {"threads": options.threads}
        self._kind = options.model.name

    def generate(
        self, prompts: Sequence[Sequence[int]], new_tokens: int, stepped: Callable[[], None]
    ) -> None:
        print("a library that prints")
        if self._kind == "dying":
            print("Segmentation error", file=sys.stderr, flush=True)
            sys.exit(9)
        for _ in range(new_tokens - (self._kind == "lazy")):
            stepped()


if __name__ == "__main__":
    sys.exit(serve(Fake))
