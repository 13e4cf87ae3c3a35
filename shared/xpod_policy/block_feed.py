"""What one member tells of its blocks: numbered events, and snapshots for whoever missed some.

Says what to do with each: which changes are news, and when a snapshot has to be asked for. Knows nothing of the blocks
themselves. However events are lost, doubled or reordered, and however late a snapshot comes, each change counts once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MOST_EARLY = 256
"""Events kept that came before one that they follow."""


@dataclass(frozen=True, slots=True)
class BlockEvent:
    """Event `sequence` of an incarnation; names of 16 bytes, one behind the other."""

    incarnation: str
    sequence: int
    added: bytes
    removed: bytes


@dataclass(slots=True)
class Verdict:
    """`replace`: put the snapshot in the place of all that was known. Then take in `events`, in order.

    `ask`: something is missing that only a snapshot has.
    """

    events: list[BlockEvent] = field(default_factory=list)
    ask: bool = False
    replace: bool = False


class BlockFeed:
    """Begins by knowing nothing: the first event asks for a snapshot."""

    def __init__(self) -> None:
        self.incarnation = ""
        self._taken: int | None = None
        self._early: dict[int, BlockEvent] = {}
        self._seen = self._asked = self._told = 0

    def forget(self) -> None:
        """Begin again: nothing is known."""
        self.incarnation, self._taken = "", None
        self._seen = self._asked = self._told = 0
        self._early.clear()

    def asks(self) -> None:
        """A snapshot is asked for now."""
        self._asked = self._seen

    def event(self, event: BlockEvent) -> Verdict:
        """Another event, or the same one again."""
        if event.incarnation != self.incarnation:
            self.forget()  # another process, which alone knows what it has
            self.incarnation = event.incarnation
        self._seen = max(self._seen, event.sequence)
        if self._taken is not None and event.sequence <= self._taken:
            return Verdict()
        if len(self._early) < MOST_EARLY:
            self._early[event.sequence] = event
        return self._next()

    def snapshot(self, incarnation: str, sequence: int) -> Verdict:
        """All of that incarnation's blocks, as of its event `sequence`.

        One that is older than what we had heard when we asked will not get better by asking again.
        """
        if incarnation != self.incarnation:
            self.forget()
            self.incarnation = incarnation
        replace = self._taken is None or sequence > self._taken
        if replace:
            self._taken = sequence
        verdict = self._next()
        verdict.replace = replace
        verdict.ask = verdict.ask and sequence >= self._asked
        return verdict

    def behind(self, sequence: int) -> bool:
        """A heartbeat tells that the last event was `sequence`. Is any missing?

        It comes another way than events, which may be later: those are missed that the heartbeat before told of.
        """
        told, self._told = self._told, sequence
        return self._taken is not None and told > self._taken

    def _next(self) -> Verdict:
        """The events that follow on what was taken, without a gap."""
        if self._taken is None:
            return Verdict(ask=True)
        events = []
        for sequence in sorted(self._early):
            if sequence == self._taken + 1:
                events.append(self._early[sequence])
                self._taken = sequence
            if sequence <= self._taken:
                del self._early[sequence]
        return Verdict(events, ask=self._seen > self._taken)
