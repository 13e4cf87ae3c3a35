"""Faults on purpose, for the in-memory bus.

Knows: rules that say what happens to a delivery. Deterministic: the same seed and the same deliveries give
the same faults. No I/O, no clock.
Does not know: how deliveries travel (see `local_bus`).
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum


class Fault(Enum):
    """What may happen to a delivery."""

    DROP = "drop"
    DUPLICATE = "duplicate"
    CORRUPT = "corrupt"
    """One byte of the payload is flipped."""
    HOLD = "hold"
    """It waits until the fabric's `release`."""
    REORDER = "reorder"
    """It is overtaken by the next delivery to the same member."""
    DELAY = "delay"
    """It comes after the fabric's `delay`, in order."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a rule sees: subject, who sends, who receives, how many bytes."""

    subject: str
    source: str
    target: str
    size: int


@dataclass(slots=True)
class Rule:
    """Applies `fault` to deliveries that match: `subject` as a NATS pattern, `source` and `target` by name.

    The first `skip` matches pass, then at most `limit` are hit (None: all), each with `probability`.
    """

    fault: Fault
    subject: str = ">"
    source: str = "*"
    target: str = "*"
    probability: float = 1.0
    skip: int = 0
    limit: int | None = None
    min_size: int = 0
    hits: int = field(default=0, init=False)

    def matches(self, delivery: Delivery) -> bool:
        return (
            delivery.size >= self.min_size
            and self.source in ("*", delivery.source)
            and self.target in ("*", delivery.target)
            and subject_matches(self.subject, delivery.subject)
        )


class FaultPlan:
    """Rules in order; the first one that strikes decides. None strikes: the delivery goes its way."""

    def __init__(self, rules: Iterable[Rule] = (), *, seed: int = 0) -> None:
        self.rules = list(rules)
        self._random = random.Random(seed)
        self._partitions: list[frozenset[str]] = []

    def partition(self, *groups: Iterable[str]) -> None:
        """From now on members of different groups do not hear each other; others hear everyone."""
        self._partitions = [frozenset(group) for group in groups]

    def heal(self) -> None:
        """Ends the partition."""
        self._partitions = []

    def decide(self, delivery: Delivery) -> Fault | None:
        """What happens to this delivery."""
        if self._is_cut(delivery.source, delivery.target):
            return Fault.DROP
        for rule in self.rules:
            if rule.matches(delivery) and self._strikes(rule):
                return rule.fault
        return None

    def _is_cut(self, source: str, target: str) -> bool:
        sides = [
            index
            for index, group in enumerate(self._partitions)
            for name in (source, target)
            if name in group
        ]
        return len(set(sides)) > 1

    def _strikes(self, rule: Rule) -> bool:
        if rule.skip > 0:
            rule.skip -= 1
            return False
        if rule.limit is not None and rule.hits >= rule.limit:
            return False
        if rule.probability < 1.0 and self._random.random() >= rule.probability:
            return False
        rule.hits += 1
        return True


def subject_matches(pattern: str, subject: str) -> bool:
    """NATS matching: `*` is one token, a last `>` one or more."""
    wanted, given = pattern.split("."), subject.split(".")
    for index, token in enumerate(wanted):
        if token == ">":
            return len(given) > index
        if index >= len(given) or token not in ("*", given[index]):
            return False
    return len(wanted) == len(given)
