"""What the router counts about the pod's promises, beside what its HTTP face counts about requests."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter


class Counters:
    """`xpod_*` counters in the router's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.divergences_seen = 0
        self._divergences = Counter(
            "xpod_divergences", "Duplicate tokens that differed: each is a bug", registry=registry
        )
        self.recoveries = Counter(
            "xpod_recoveries", "Workers replaced under a live session", registry=registry
        )
        self.sessions = Counter("xpod_sessions", "Sessions opened", registry=registry)
        self.routed_prefix = Counter(
            "xpod_routed_prefix_tokens",
            "Prompt tokens that the chosen prefill worker was expected to find cached",
            registry=registry,
        )

    def diverged(self) -> None:
        """One more duplicate differed."""
        self.divergences_seen += 1
        self._divergences.inc()
