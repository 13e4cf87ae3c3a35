"""What workers measure of steps and expert calls, in their `/metrics`.

Knows: which figures, and their names. Does not know: when a call or a step began.
"""

from __future__ import annotations

from bisect import bisect_left

from prometheus_client import CollectorRegistry

from xpod_runtime.tally import SECONDS, Tally, TallyCollector

PAIRS = (8, 64, 512)
"""Sizes of expert calls: one token, small batches, large ones, prompts."""
SIZES = ("1-8", "9-64", "65-512", "513-")
PARTS = ("queue", "compute", "way")
TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)


class Measured:
    """The histograms of one worker. `call` is for the computing thread, `step` for the event loop."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = [{part: Tally() for part in PARTS} for _ in SIZES]
        self._seconds, self._tokens = Tally(SECONDS), Tally(TOKENS)
        tallies: dict[tuple[str, ...], Tally] = {
            (size, part): tally
            for size, parts in zip(SIZES, self._calls, strict=True)
            for part, tally in parts.items()
        }
        for collector in (
            TallyCollector(
                "xpod_expert_call_seconds",
                "An expert call that was answered, by its pairs of token and expert: in the shard's queue, computing, "
                "and on its way there and back",
                ("pairs", "part"),
                tallies,
            ),
            TallyCollector("xpod_step_seconds", "A step of a worker's batch", (), {(): self._seconds}),
            TallyCollector("xpod_step_tokens", "Tokens that a step computed", (), {(): self._tokens}),
        ):
            registry.register(collector)

    def call(self, pairs: int, whole: float, queued_us: int, computed_us: int) -> None:
        """A call for so many pairs took `whole` seconds, of which the shard tells its two parts."""
        parts = self._calls[bisect_left(PAIRS, pairs)]
        queued, computed = queued_us / 1e6, computed_us / 1e6
        parts["queue"].note(queued)
        parts["compute"].note(computed)
        parts["way"].note(max(0.0, whole - queued - computed))

    def step(self, seconds: float, tokens: int) -> None:
        """A step computed so many tokens."""
        self._seconds.note(seconds)
        self._tokens.note(tokens)
